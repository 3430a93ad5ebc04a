import { useId } from 'react'
import { reasonMax } from '../api/session'

/** Asks staff why it looks at what is a tenant's. */
export function ReasonField({ value, change }: { value: string; change: (value: string) => void }) {
  const id = useId()
  const missing = value.trim() === ''
  return (
    <>
      <label htmlFor={id} className="font-medium">
        Why you look
      </label>
      <input
        id={id} value={value} onChange={(e) => change(e.target.value)} maxLength={reasonMax} required aria-invalid={missing} aria-describedby={`${id}-hint`}
        className="mt-1 h-9 w-full rounded-md border border-control bg-surface px-3"
      />
      <p id={`${id}-hint`} className={`mt-1 text-xs/4 ${missing ? 'text-danger' : 'text-muted'}`}>
        Such as a ticket. It is needed, it is recorded, and a tenant sees it in its timeline.
      </p>
    </>
  )
}
