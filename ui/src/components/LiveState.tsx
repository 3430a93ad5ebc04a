import { togglePaused, useLiveStatus, usePaused, type PageStatus } from '../lib/liveStatus'

const words: Record<PageStatus, { text: string; dot: string; title: string }> = {
  connecting: { text: 'Connecting', dot: 'bg-control', title: 'Opening the live stream' },
  live: { text: 'Live', dot: 'bg-ok', title: 'Every change appears by itself' },
  reconnecting: { text: 'Reconnecting', dot: 'bg-warn', title: 'The live stream broke off; trying again' },
  delayed: { text: 'Delayed', dot: 'bg-warn', title: 'Nothing was heard from the server for 20 seconds' },
  polling: { text: 'Every 30 s', dot: 'bg-warn', title: 'The live stream does not answer; the page asks every 30 seconds' },
  asking: { text: 'Every 5 s', dot: 'bg-ok', title: 'The page asks every 5 seconds' },
}

/** How fresh the page in view is, and the way to hold it still. */
export function LiveState() {
  const status = useLiveStatus()
  const paused = usePaused()
  if (!status) return null
  const { text, dot, title } = words[status]
  return (
    <button type="button" onClick={togglePaused} title={paused ? 'The page is held still' : title} data-testid="live-state" className="button gap-2">
      {/* A different shape, not only another color, for what is not live. */}
      <span aria-hidden="true" className={`size-2 ${paused ? 'bg-warn' : `${dot} ${status === 'live' || status === 'asking' ? 'rounded-full' : ''}`}`} />
      {paused ? 'Paused' : text}
      <span className="sr-only">, {paused ? 'go on' : 'pause'}</span>
      <svg viewBox="0 0 10 10" className="size-2.5 text-muted" aria-hidden="true" fill="currentColor">
        {paused ? <path d="M1 0 9.5 5 1 10Z" /> : <path d="M1 0h3v10H1ZM6 0h3v10H6Z" />}
      </svg>
    </button>
  )
}
