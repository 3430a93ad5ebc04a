import { duration } from '../lib/time'
import { useNow } from '../lib/useNow'

interface Props {
  position: string
  /** When the page got to this position, and when the server last said anything, in milliseconds. */
  changedAt: number
  heardAt: number
  fresh: boolean
}

/** Which state of the ledger the page shows, and since when: a ledger page that hides its lag is lying. */
export function AsOf({ position, changedAt, heardAt, fresh }: Props) {
  const now = useNow()
  const since = (at: number) => duration(Math.max(0, Math.floor((now - at) / 1000)))
  return (
    <p className="text-xs/4 text-muted tabular-nums">
      As of position <code className="font-mono">{position.slice(0, 8)}…</code> ·{' '}
      {fresh ? `${since(changedAt)} ago` : <strong className="text-warn">not updated for {since(heardAt)}</strong>}
    </p>
  )
}
