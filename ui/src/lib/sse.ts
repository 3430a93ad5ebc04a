/** One server-sent event. */
export interface SseEvent {
  event: string
  data: string
  /** The last id seen so far, as the specification has it. */
  id: string
}

/**
 * A parser for a stream of server-sent events that arrives in arbitrary pieces. EventSource can not send an
 * Authorization header, so the stream is read with fetch.
 *
 * Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
 */
export class SseParser {
  #rest = ''
  #data: string[] = []
  #event = ''
  #id = ''
  #afterCr = false
  /** Milliseconds to wait before connecting again, when the server said so. */
  retry: number | undefined

  /** Takes the next piece and returns the events that it completes. */
  push(piece: string): SseEvent[] {
    const events: SseEvent[] = []
    // A \r\n may be cut in two: the \r ended the line, the \n belongs to it.
    if (piece === '') return events
    const text = this.#afterCr && piece.startsWith('\n') ? piece.slice(1) : piece
    this.#afterCr = piece.endsWith('\r')
    const lines = (this.#rest + text).split(/\r\n|\n|\r/)
    this.#rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line === '') {
        if (this.#data.length > 0) {
          events.push({ event: this.#event || 'message', data: this.#data.join('\n'), id: this.#id })
        }
        this.#data = []
        this.#event = ''
      } else {
        this.#field(line)
      }
    }
    return events
  }

  #field(line: string) {
    const colon = line.indexOf(':')
    if (colon === 0) return // a comment
    const name = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '')
    switch (name) {
      case 'event':
        this.#event = value
        break
      case 'data':
        this.#data.push(value)
        break
      case 'id':
        if (!value.includes('\0')) this.#id = value
        break
      case 'retry':
        if (/^\d+$/.test(value)) this.retry = Number(value)
        break
    }
  }
}
