import { duration } from '../lib/time'
import { useNow } from '../lib/useNow'

/** Which state of the ledger the page shows, and since when: a ledger page that hides its lag is lying. */
export function AsOf({ position, receivedAt, live }: { position: string; receivedAt: number; live: boolean }) {
  const age = Math.max(0, Math.floor((useNow() - receivedAt) / 1000))
  return (
    <p className="text-xs/4 text-muted">
      As of position <code className="font-mono">{position.slice(0, 8)}…</code>,{' '}
      {live ? `last change ${duration(age)} ago` : <strong className="text-warn">not updated for {duration(age)}</strong>}
    </p>
  )
}
