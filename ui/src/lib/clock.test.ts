import { describe, expect, it } from 'vitest'
import { learnTime, now } from './clock'

const answerOf = (time: number) => new Response(null, { headers: { Date: new Date(time).toUTCString() } })

describe('clock', () => {
  it('follows a server whose clock differs, and nothing less', () => {
    learnTime(answerOf(Date.now() + 60_000))
    expect(now() - Date.now()).toBeGreaterThan(58_000)
    learnTime(new Response(null))
    expect(now() - Date.now()).toBeGreaterThan(58_000)
    learnTime(answerOf(Date.now()))
    expect(Math.abs(now() - Date.now())).toBeLessThan(5)
  })
})
