import { describe, expect, it } from 'vitest'
import { SseParser } from './sse'

const events = (...pieces: string[]) => {
  const parser = new SseParser()
  return pieces.flatMap((piece) => parser.push(piece))
}

describe('SseParser', () => {
  const stream = 'retry: 2000\n\n: comment\nevent: snapshot\nid: p1\ndata: {"a":1}\n\nevent: change\ndata: x\ndata:  y\n\ndata\n\n'
  const want = [
    { event: 'snapshot', data: '{"a":1}', id: 'p1' },
    { event: 'change', data: 'x\n y', id: 'p1' },
    { event: 'message', data: '', id: 'p1' },
  ]

  it('reads events, multi-line data and ids that last', () => {
    expect(events(stream)).toEqual(want)
  })

  it.each(['\n', '\r\n', '\r'])('gives the same for every cut and the line end %j', (end) => {
    // A lone \r at the very end might be half of \r\n; what follows it tells.
    const text = stream.replaceAll('\n', end)
    for (let cut = 0; cut <= text.length; cut++) {
      expect(events(text.slice(0, cut), text.slice(cut))).toEqual(want)
    }
    expect(events(...text)).toEqual(want)
  })

  it('tells half of \\r\\n from an empty line of its own', () => {
    expect(events('data: a\r', '\n', '\n')).toEqual([{ event: 'message', data: 'a', id: '' }])
    expect(events('data: a\r', '', '\n', '', '\r\n')).toEqual([{ event: 'message', data: 'a', id: '' }])
  })

  it('drops what has no data, and an event that is cut off', () => {
    expect(events('event: ping\n\n', 'id: 7\n\n', 'data: half')).toEqual([])
  })

  it('keeps the time to wait before connecting again', () => {
    const parser = new SseParser()
    parser.push('retry: 1500\nretry: soon\n\n')
    expect(parser.retry).toBe(1500)
  })
})
