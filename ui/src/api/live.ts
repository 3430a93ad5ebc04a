import { learnTime } from '../lib/clock'
import { SseParser } from '../lib/sse'
import type { Frame } from '../lib/view'
import { session, sessionHeaders } from './session'

/** How fresh the page is. */
export type LiveStatus = 'connecting' | 'live' | 'reconnecting' | 'delayed' | 'polling'

export interface LiveHandlers {
  frame(frame: Frame): void
  status(status: LiveStatus): void
  /** The server said something, if only that it is there. */
  heard(): void
  /** The newest snapshot this tab could give to another one; undefined when it has none. */
  snapshot(): Frame | undefined
}

type Message = { kind: 'frame'; frame: Frame } | { kind: 'status'; status: LiveStatus } | { kind: 'heard' } | { kind: 'hello' }

/** Without a byte for this long the stream counts as delayed, then as dead. The server pings every 15 s. */
const delayedAfter = 20_000
const deadAfter = 40_000
const failuresUntilPolling = 3
/** How long a server that comes back may have to wait for the page, give or take a fifth: one that is gone, one that refuses. */
const goneWait = 2000
const refusedWait = 10_000

/**
 * Follows a tenant until the returned function is called. All tabs of a browser share one stream: a browser opens only
 * six connections to a host, so the seventh tab would hang. A Web Lock elects the tab that holds the stream; it passes
 * every frame on. When that tab goes, another takes over.
 */
export function followTenant(tenant: string, handlers: LiveHandlers): () => void {
  const stop = new AbortController()
  const name = `ledger-live:${tenant}`
  const channel = new BroadcastChannel(name)
  let leading = false
  let status: LiveStatus = 'connecting'

  const deliver = (message: Message) => {
    if (message.kind === 'frame') handlers.frame(message.frame)
    if (message.kind === 'status') handlers.status(message.status)
    if (message.kind === 'heard') handlers.heard()
  }
  const publish = (message: Message) => {
    deliver(message)
    channel.postMessage(message)
  }
  channel.addEventListener('message', (event: MessageEvent<Message>) => {
    if (event.data.kind !== 'hello') {
      deliver(event.data)
    } else if (leading) {
      const frame = handlers.snapshot()
      if (frame) channel.postMessage({ kind: 'frame', frame } satisfies Message)
      channel.postMessage({ kind: 'status', status } satisfies Message)
    }
  })
  channel.postMessage({ kind: 'hello' } satisfies Message)

  const lead = async () => {
    leading = true
    await stream(tenant, stop.signal, (frame) => {
      publish({ kind: 'heard' })
      if (frame) publish({ kind: 'frame', frame })
    }, (next) => {
      if (next === status) return
      status = next
      publish({ kind: 'status', status: next })
    })
  }
  // Without Web Locks (a page that is neither https nor local) every tab has its own stream.
  const role = navigator.locks ? navigator.locks.request(name, { signal: stop.signal }, lead) : lead()
  role.catch((error: unknown) => {
    if (!stop.signal.aborted) throw error
  })
  return () => {
    stop.abort()
    channel.close()
  }
}

/** Reads the stream, again and again, until signal ends it. */
async function stream(tenant: string, signal: AbortSignal, heard: (frame: Frame | undefined) => void, status: (s: LiveStatus) => void) {
  let failures = 0
  let lastId = ''
  while (!signal.aborted) {
    const refused = await once(tenant, signal, lastId, (received, id) => {
      failures = 0
      if (id) lastId = id // the ping with which a resumed stream may begin has none
      status('live')
      heard(received)
    }, () => status('delayed'))
    if (signal.aborted) return
    failures++
    status(failures > failuresUntilPolling ? 'polling' : 'reconnecting')
    const wait = Math.min(500 * 2 ** (failures - 1), refused ? refusedWait : goneWait)
    await pause(wait * (0.8 + Math.random() * 0.4), signal)
  }
}

/** Opens the stream once and returns when it ends, for whatever reason: true when the server refused it. */
async function once(tenant: string, signal: AbortSignal, lastId: string, received: (frame: Frame | undefined, id: string) => void, delayed: () => void): Promise<boolean> {
  const attempt = new AbortController()
  const abort = () => attempt.abort()
  signal.addEventListener('abort', abort)
  let lastByte = Date.now()
  const watchdog = setInterval(() => {
    const silence = Date.now() - lastByte
    if (silence > deadAfter) abort()
    else if (silence > delayedAfter) delayed()
  }, 1000)
  try {
    const { key } = session
    const headers: Record<string, string> = { ...sessionHeaders(), Accept: 'text/event-stream' }
    if (lastId) headers['Last-Event-ID'] = lastId
    const response = await fetch(`/api/v1/tenants/${encodeURIComponent(tenant)}/live`, { headers, signal: attempt.signal, cache: 'no-store' })
    learnTime(response)
    if (response.status === 401) session.reject(key)
    if (!response.ok || !response.body) return true
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
    const parser = new SseParser()
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return false
      lastByte = Date.now()
      for (const event of parser.push(value)) {
        const known = event.event === 'snapshot' || event.event === 'change'
        received(known ? ({ kind: event.event, data: JSON.parse(event.data) } as Frame) : undefined, event.id)
      }
    }
  } catch {
    // The network failed or the watchdog gave up: the caller connects again.
    return false
  } finally {
    clearInterval(watchdog)
    signal.removeEventListener('abort', abort)
    attempt.abort()
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', end)
      removeEventListener('online', end)
      document.removeEventListener('visibilitychange', seen)
      resolve()
    }
    const seen = () => {
      if (!document.hidden) end()
    }
    const timer = setTimeout(end, ms)
    signal.addEventListener('abort', end)
    addEventListener('online', end)
    document.addEventListener('visibilitychange', seen)
  })
}
