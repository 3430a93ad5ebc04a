import { usePaused } from '../lib/liveStatus'
import { ago, duration, fullTime, timeOfDay } from '../lib/time'
import { useNow } from '../lib/useNow'

interface Props {
  position: string
  /** Time of the last change that the page holds. */
  time: string
  /** When the server last said anything, in milliseconds. */
  heardAt: number
  fresh: boolean
}

/** Which state of the ledger the page shows, and since when: a ledger page that hides its lag is lying. */
export function AsOf({ position, time, heardAt, fresh }: Props) {
  const now = useNow()
  const paused = usePaused()
  return (
    <p className="text-xs/4 text-muted tabular-nums">
      As of{' '}
      <time dateTime={time} title={fullTime(time)}>
        {timeOfDay(time)}
      </time>
      {!paused && <> · {ago(time, now)}</>} · position{' '}
      <code className="font-mono" title={position}>
        {position.slice(0, 8)}…
      </code>
      {paused ? (
        <strong className="text-warn"> · paused, changes are held back</strong>
      ) : (
        !fresh && <strong className="text-warn"> · not updated for {duration(Math.max(0, Math.floor((now - heardAt) / 1000)))}</strong>
      )}
    </p>
  )
}
