import { useState } from 'react'

/** Seats in use against the limit, as words and as a bar. */
export function SeatBar({ inUse, seats }: { inUse: number; seats: number }) {
  // Counted, so that each change is a new element, which shows its tint; the first number is no change.
  const [last, setLast] = useState({ inUse, changes: 0 })
  if (last.inUse !== inUse) setLast({ inUse, changes: last.changes + 1 })
  const over = inUse > seats
  const full = inUse >= seats && seats > 0
  const percent = seats === 0 ? (inUse > 0 ? 100 : 0) : Math.min(100, (inUse / seats) * 100)
  const color = over ? 'bg-danger' : full ? 'bg-warn' : 'bg-accent'
  return (
    <div>
      <p className="tabular-nums">
        <span key={last.changes} className={`text-2xl/8 font-semibold ${last.changes > 0 ? 'changed' : ''}`} data-testid="in-use">
          {inUse}
        </span>{' '}
        <span className="text-muted">
          of {seats} {seats === 1 ? 'seat' : 'seats'} in use{over ? ', over the limit' : full ? ', full' : ''}
        </span>
      </p>
      <div className="seat-bar mt-1 h-2 overflow-hidden rounded-full bg-surface-2" aria-hidden="true">
        <div className={`h-full rounded-full ${color}`} style={{ width: `${percent}%` }} />
      </div>
    </div>
  )
}
