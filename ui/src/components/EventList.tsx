import { useState } from 'react'
import type { Event, License } from '../api/types'
import { describe, type EventWords } from '../lib/events'
import { ago, fullTime } from '../lib/time'
import { useNow } from '../lib/useNow'

const tones: Record<EventWords['tone'], string> = {
  ok: 'text-ok',
  warn: 'text-warn',
  danger: 'text-danger',
  plain: 'text-muted',
}

interface Props {
  events: Event[]
  names: Record<string, string>
  licenses: License[]
  holders: Record<string, string>
}

/** The newest events, newest first. Each can be opened to the object that is stored. */
export function EventList({ events, names, licenses, holders }: Props) {
  const now = useNow()
  return (
    <ol>
      {events.map((event) => {
        const { verb, about, tone, sign } = describe(event, names, licenses, holders)
        return (
          <li key={event.id} data-event={event.type} className="grid grid-cols-[1.25rem_minmax(0,1fr)] border-b border-line px-4 py-2 last:border-0">
            <span aria-hidden="true" className={`font-semibold ${tones[tone]}`}>
              {sign}
            </span>
            <div>
              <p>
                <span className="font-semibold">{verb}</span> {about}
              </p>
              <Stored event={event}>
                <time dateTime={event.time} title={fullTime(event.time)} className="tabular-nums">
                  {ago(event.time, now)}
                </time>
                , by {actor(event.actor)}, version{'\u00a0'}{event.version}
              </Stored>
            </div>
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
