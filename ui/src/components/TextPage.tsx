import type { ReactNode } from 'react'
import { useTitle } from '../lib/useTitle'

/** A page that only says something. */
export function TextPage({ title, children }: { title: string; children: ReactNode }) {
  useTitle(title)
  return (
    <article className="grid max-w-prose gap-3 text-base/6">
      <h1 className="text-xl/7 font-semibold">{title}</h1>
      {children}
    </article>
  )
}
