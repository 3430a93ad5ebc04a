import { useState } from 'react'

/** Up to this many seats each one is drawn. */
const drawnSeats = 40

/** Seats in use against the limit, as words and as a bar. */
export function SeatBar({ inUse, seats }: { inUse: number; seats: number }) {
  const over = inUse > seats
  const full = inUse >= seats && seats > 0
  const color = over ? 'bg-danger' : full ? 'bg-warn' : 'bg-accent'
  return (
    <div>
      <p className="tabular-nums">
        <Figure value={inUse} />{' '}
        <span className="text-muted">
          of {seats} {seats === 1 ? 'seat' : 'seats'} in use{over ? ', over the limit' : full ? ', full' : ''}
        </span>
      </p>
      {Math.max(inUse, seats) <= drawnSeats ? (
        <div className="mt-2 flex h-2 gap-0.5" aria-hidden="true">
          {Array.from({ length: Math.max(inUse, seats) }, (_, i) => (
            <span key={i} className={`seat-bar h-full flex-1 rounded-xs ${i < inUse ? color : 'bg-surface-3'}`} />
          ))}
        </div>
      ) : (
        <div className="seat-bar mt-2 h-2 overflow-hidden rounded-xs bg-surface-3" aria-hidden="true">
          <div className={`h-full ${color}`} style={{ width: `${seats === 0 ? 100 : Math.min(100, (inUse / seats) * 100)}%` }} />
        </div>
      )}
    </div>
  )
}

/** A number that shows a tint for a moment when it changes. */
function Figure({ value }: { value: number }) {
  const [shown, setShown] = useState({ value, changes: 0 })
  if (shown.value !== value) setShown({ value, changes: shown.changes + 1 })
  return (
    // The key makes a changed number a new element, whose tint starts from the beginning.
    <span key={shown.changes} className={`text-[1.75rem]/8 font-semibold ${shown.changes > 0 ? 'changed' : ''}`} data-testid="in-use">
      {value}
    </span>
  )
}
