import type { LiveStatus } from '../api/live'
import { useLiveStatus } from '../lib/liveStatus'

const words: Record<LiveStatus, { text: string; dot: string; title: string }> = {
  connecting: { text: 'Connecting', dot: 'bg-control', title: 'Opening the live stream' },
  live: { text: 'Live', dot: 'bg-ok', title: 'Every change appears by itself' },
  reconnecting: { text: 'Reconnecting', dot: 'bg-warn', title: 'The live stream broke off; trying again' },
  delayed: { text: 'Delayed', dot: 'bg-warn', title: 'Nothing was heard from the server for 20 seconds' },
  polling: { text: 'Every 30 s', dot: 'bg-warn', title: 'The live stream does not answer; the page asks every 30 seconds' },
}

/** How fresh the page in view is. */
export function LiveState() {
  const status = useLiveStatus()
  if (!status) return null
  const { text, dot, title } = words[status]
  return (
    <span className="inline-flex h-9 items-center gap-2 px-1 font-medium" title={title} data-testid="live-state">
      <span className={`size-2 rounded-full ${dot}`} aria-hidden="true" />
      {text}
    </span>
  )
}
