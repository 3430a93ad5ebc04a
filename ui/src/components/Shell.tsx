import { Link, Outlet, useLocation } from '@tanstack/react-router'
import { useEffect, useRef } from 'react'
import { useSessionReason } from '../api/session'
import { nextTheme, useTheme } from '../lib/theme'
import { LiveState } from './LiveState'
import { ProfileMenu } from './ProfileMenu'

const navigation = [
  { to: '/', label: 'Home' },
  { to: '/products', label: 'Products' },
  { to: '/about', label: 'About' },
  { to: '/contact', label: 'Contact' },
] as const

const legal = [
  { to: '/privacy', label: 'Privacy' },
  { to: '/terms', label: 'Terms' },
  { to: '/support', label: 'Support' },
] as const

const linkStyle = 'inline-flex min-h-6 items-center rounded px-2 py-1 text-muted hover:bg-surface-2 hover:text-fg'

/** The frame around every page. */
export function Shell() {
  return (
    <div className="flex min-h-dvh flex-col">
      <a href="#main" className="sr-only focus:not-sr-only focus:absolute focus:left-2 focus:top-2 focus:z-20 focus:rounded focus:bg-surface focus:px-3 focus:py-2">
        Skip to content
      </a>
      <header className="sticky top-0 z-10 border-b border-line bg-surface">
        <div className="mx-auto flex max-w-[90rem] flex-wrap items-center gap-x-4 gap-y-1 px-4 py-2">
          <Link to="/" className="flex min-h-8 items-center gap-2 font-semibold">
            <Mark />
            <span>AZ1.AI</span>
          </Link>
          <nav aria-label="Main" className="order-last flex w-full flex-wrap sm:order-none sm:w-auto">
            {navigation.map(({ to, label }) => (
              <Link key={to} to={to} className={linkStyle} activeProps={{ className: 'font-semibold text-fg underline decoration-2 underline-offset-8 decoration-accent' }} activeOptions={{ exact: true }}>
                {label}
              </Link>
            ))}
          </nav>
          <div className="ml-auto flex items-center gap-2">
            <LiveState />
            <ThemeToggle />
            <ProfileMenu />
          </div>
        </div>
      </header>
      <main id="main" ref={useFocusOnNavigation()} tabIndex={-1} className="mx-auto w-full max-w-[90rem] flex-1 px-4 py-6 outline-none">
        <Outlet key={useSessionReason()} /> {/* for another reason everything is asked for again */}
      </main>
      <footer className="border-t border-line bg-surface">
        <nav aria-label="Footer" className="mx-auto flex max-w-[90rem] flex-wrap gap-x-2 px-4 py-3">
          {legal.map(({ to, label }) => (
            <Link key={to} to={to} className={linkStyle}>
              {label}
            </Link>
          ))}
          <a href="/api/docs" className={linkStyle}>
            Documentation
          </a>
        </nav>
      </footer>
    </div>
  )
}

/** Where a page was changed by a link, reading goes on at the new page, not at the link that is gone. */
function useFocusOnNavigation() {
  const main = useRef<HTMLElement>(null)
  const path = useLocation({ select: (l) => l.pathname })
  const before = useRef(path)
  useEffect(() => {
    if (before.current !== path) main.current?.focus({ preventScroll: true })
    before.current = path
  }, [path])
  return main
}

function Mark() {
  return (
    <svg viewBox="0 0 32 32" className="size-7" aria-hidden="true">
      <rect width="32" height="32" rx="7" fill="#0369a1" />
      <path d="M8 22 14 9h4l6 13h-4l-1-2.6h-6L12 22Zm6.2-5.6h3.6L16 11.8Z" fill="#fff" />
    </svg>
  )
}

const themeNames = { system: 'System', light: 'Light', dark: 'Dark' } as const

function ThemeToggle() {
  const theme = useTheme()
  return (
    <button type="button" onClick={nextTheme} className="button gap-1.5 text-muted hover:text-fg" title="Change the theme">
      <svg viewBox="0 0 16 16" className="size-4" aria-hidden="true">
        <circle cx="8" cy="8" r="6.5" fill="none" stroke="currentColor" strokeWidth="1.5" />
        <path d="M8 1.5a6.5 6.5 0 0 1 0 13Z" fill="currentColor" />
      </svg>
      <span className="sr-only">Theme: </span>
      <span className="max-sm:sr-only">{themeNames[theme]}</span>
    </button>
  )
}
