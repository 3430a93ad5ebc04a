import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { snapshot } from '../test/ledger'
import { followTenant, type LiveHandlers, type LiveStatus } from './live'
import { session } from './session'

/** One call of fetch, to be answered by the test. */
class Call {
  readonly headers: Headers
  readonly signal: AbortSignal
  #answer!: (response: Response) => void
  #body: ReadableStreamDefaultController<Uint8Array> | undefined
  readonly response = new Promise<Response>((resolve) => (this.#answer = resolve))

  constructor(init: RequestInit) {
    this.headers = new Headers(init.headers)
    this.signal = init.signal as AbortSignal
    this.signal.addEventListener('abort', () => this.cut())
  }

  refuse(status: number) {
    this.#answer(new Response(null, { status }))
  }

  open() {
    this.#answer(new Response(new ReadableStream<Uint8Array>({ start: (c) => void (this.#body = c) }), { status: 200 }))
  }

  send(text: string) {
    this.#body?.enqueue(new TextEncoder().encode(text))
  }

  cut() {
    this.#body?.error(new TypeError('network error'))
  }
}

/** A lock that one at a time holds, as Web Locks in a browser. */
function locks() {
  let turn: Promise<unknown> = Promise.resolve()
  return {
    request(_name: string, options: { signal: AbortSignal }, run: () => Promise<void>) {
      const result = turn.then(() => (options.signal.aborted ? undefined : run()))
      turn = result
      return result
    },
  }
}

let calls: Call[]
const snapshotText = `id: p1\nevent: snapshot\ndata: ${JSON.stringify(snapshot())}\n\n`
const stops: (() => void)[] = []

function follow(over: Partial<LiveHandlers> = {}) {
  const statuses: LiveStatus[] = []
  const frames: string[] = []
  const stop = followTenant('acme', {
    frame: (frame) => frames.push(frame.kind), status: (s) => statuses.push(s), heard: () => undefined, snapshot: () => undefined, ...over,
  })
  stops.push(stop)
  return { statuses, frames, stop }
}

/** Lets everything happen that is due within ms. */
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)
/** Messages between tabs and the bytes of a stream take a real moment. */
const settle = () => new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
const later = async (ms = 0) => {
  await pass(ms)
  for (let i = 0; i < 5; i++) await settle()
  await pass(0)
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date'] })
  calls = []
  vi.stubGlobal('fetch', (_url: string, init: RequestInit) => {
    const call = new Call(init)
    calls.push(call)
    return call.response
  })
  vi.stubGlobal('navigator', { locks: locks() })
  session.signIn('op_key')
})
afterEach(async () => {
  for (const stop of stops.splice(0)) stop()
  await later()
  vi.unstubAllGlobals()
  vi.useRealTimers()
})

describe('followTenant', () => {
  it('sends the key, and passes frames on', async () => {
    const { frames, statuses } = follow()
    await later()
    expect(calls[0]?.headers.get('Authorization')).toBe('Bearer op_key')
    expect(calls[0]?.headers.has('Last-Event-ID')).toBe(false)
    calls[0]?.open()
    await later()
    calls[0]?.send(snapshotText)
    await later()
    expect(frames).toEqual(['snapshot'])
    expect(statuses).toEqual(['live'])
  })

  it('connects again where it stopped when the stream breaks', async () => {
    const { statuses } = follow()
    await later()
    calls[0]?.open()
    await later()
    calls[0]?.send(snapshotText)
    await later()
    calls[0]?.cut()
    await later()
    expect(statuses).toEqual(['live', 'reconnecting'])
    await later(700)
    expect(calls[1]?.headers.get('Last-Event-ID')).toBe('p1')
  })

  it('is live again by a ping when nothing was missed, and remembers where it stopped', async () => {
    const { frames, statuses } = follow()
    await later()
    calls[0]?.open()
    await later()
    calls[0]?.send(snapshotText)
    await later()
    calls[0]?.cut()
    await later(700)
    calls[1]?.open()
    await later()
    calls[1]?.send('event: ping\ndata:\n\n')
    await later()
    expect(statuses).toEqual(['live', 'reconnecting', 'live'])
    expect(frames).toEqual(['snapshot'])
    calls[1]?.cut()
    await later(700)
    expect(calls[2]?.headers.get('Last-Event-ID')).toBe('p1')
  })

  it('waits longer each time, and says after three failures that it polls', async () => {
    const { statuses } = follow()
    await later()
    for (let i = 0; i < 4; i++) {
      calls[i]?.refuse(503)
      await later(i < 3 ? 5000 : 0)
    }
    expect(statuses).toEqual(['reconnecting', 'polling'])
    expect(calls).toHaveLength(4)
    await later(2000)
    expect(calls).toHaveLength(4)
    await later(3000)
    calls[4]?.open()
    await later()
    calls[4]?.send(snapshotText)
    await later()
    expect(statuses.at(-1)).toBe('live')
  })

  it('is back soon after a long outage', async () => {
    follow()
    await later()
    for (let i = 0; i < 20; i++) {
      calls[i]?.refuse(503)
      await later(12_000)
      expect(calls).toHaveLength(i + 2)
    }
  })

  it('asks a server that is gone every two seconds: it may be restarting', async () => {
    follow()
    await later()
    calls[0]?.open()
    await later()
    for (let i = 0; i < 10; i++) {
      calls[i]?.cut()
      await later(2500)
      expect(calls).toHaveLength(i + 2)
      calls[i + 1]?.open()
      await later()
    }
  })

  it('notices a stream that went silent', async () => {
    const heard = vi.fn<() => void>()
    const { statuses } = follow({ heard })
    await later()
    calls[0]?.open()
    await later()
    calls[0]?.send(snapshotText)
    await later(15_000)
    calls[0]?.send('event: ping\ndata:\n\n')
    await later(18_000)
    expect(heard).toHaveBeenCalledTimes(2)
    expect(statuses).toEqual(['live'])
    await later(4000)
    expect(statuses).toEqual(['live', 'delayed'])
    await later(22_000)
    expect(calls[0]?.signal.aborted).toBe(true)
  })

  it('forgets a key that the server refuses', async () => {
    follow()
    await later()
    calls[0]?.refuse(401)
    await later()
    expect(session.key).toBe('')
    expect(session.rejected).toBe(true)
  })

  it('shares one stream among tabs, and hands it on', async () => {
    const first = follow({ snapshot: () => ({ kind: 'snapshot', data: snapshot() }) })
    await later()
    calls[0]?.open()
    await later()
    calls[0]?.send(snapshotText)
    await later()
    const second = follow()
    await later()
    expect(calls).toHaveLength(1)
    expect(second.frames).toEqual(['snapshot'])
    expect(second.statuses).toEqual(['live'])
    calls[0]?.send(snapshotText)
    await later()
    expect(second.frames).toHaveLength(2)
    first.stop()
    await later()
    expect(calls[0]?.signal.aborted).toBe(true)
    expect(calls).toHaveLength(2)
  })
})
