import { useSyncExternalStore } from 'react'

export type Theme = 'system' | 'light' | 'dark'

const themes: readonly Theme[] = ['system', 'light', 'dark']
const listeners = new Set<() => void>()
const systemDark = matchMedia('(prefers-color-scheme: dark)')
systemDark.addEventListener('change', apply)

function choice(): Theme {
  const stored = localStorage.getItem('theme') as Theme | null
  return stored && themes.includes(stored) ? stored : 'system'
}

/** Keep in step with public/theme.js, which does the same before the first paint. */
function apply() {
  const theme = choice()
  document.documentElement.classList.toggle('dark', theme === 'dark' || (theme === 'system' && systemDark.matches))
  for (const listener of listeners) listener()
}

export function nextTheme() {
  localStorage.setItem('theme', themes[(themes.indexOf(choice()) + 1) % themes.length] ?? 'system')
  apply()
}

export function useTheme(): Theme {
  return useSyncExternalStore((listener) => {
    listeners.add(listener)
    return () => listeners.delete(listener)
  }, choice)
}
