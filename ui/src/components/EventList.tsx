import { useState } from 'react'
import type { Event, License } from '../api/types'
import { describe, holdersOf, type EventWords } from '../lib/events'
import { ago, fullTime } from '../lib/time'
import { useNow } from '../lib/useNow'

const tones: Record<EventWords['tone'], string> = {
  ok: 'border-l-ok',
  warn: 'border-l-warn',
  danger: 'border-l-danger',
  plain: 'border-l-control',
}

/** The newest events, newest first. Each can be opened to the object that is stored. */
export function EventList({ events, names, licenses }: { events: Event[]; names: Record<string, string>; licenses: License[] }) {
  const now = useNow()
  const holders = holdersOf(events, names)
  return (
    <ol className="grid gap-2">
      {events.map((event) => {
        const { verb, about, tone } = describe(event, names, licenses, holders)
        return (
          <li key={event.id} data-event={event.type} className={`border-l-4 pl-3 ${tones[tone]}`}>
            <p>
              <span className="font-semibold">{verb}</span> {about}
            </p>
            <Stored event={event}>
              <time dateTime={event.time} title={fullTime(event.time)}>
                {ago(event.time, now)}
              </time>
              , by {actor(event.actor)}, version{'\u00a0'}{event.version}
            </Stored>
          </li>
        )
      })}
    </ol>
  )
}

/** Opens to the event as it is stored. Closed ones are not rendered: the list is drawn again every second. */
function Stored({ event, children }: { event: Event; children: React.ReactNode }) {
  const [open, setOpen] = useState(false)
  return (
    <details className="text-xs/4 text-muted" onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary className="min-h-6 cursor-pointer py-1">{children}</summary>
      {open && <pre className="mt-1 rounded bg-surface-2 p-2 font-mono break-all whitespace-pre-wrap text-fg">{JSON.stringify(event, null, 2)}</pre>}
    </details>
  )
}

function actor(id: string): string {
  if (id === 'writer') return 'the ledger'
  if (id === 'operator') return 'the operator'
  return id.replace(/^key:/, 'license key ')
}
