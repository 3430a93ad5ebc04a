import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { askAgain } from './askAgain'

describe('askAgain', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  it('asks at once, and once more for all that changed before it may ask again', async () => {
    const question = vi.fn<() => Promise<void>>(async () => {})
    const ask = askAgain(question)
    void ask()
    expect(question).toHaveBeenCalledTimes(1)
    for (let i = 0; i < 5; i++) void ask()
    await vi.advanceTimersByTimeAsync(999)
    expect(question).toHaveBeenCalledTimes(1)
    await vi.advanceTimersByTimeAsync(1)
    expect(question).toHaveBeenCalledTimes(2)
    await vi.advanceTimersByTimeAsync(10_000)
    expect(question).toHaveBeenCalledTimes(2)
  })

  it('asks again for what changed while the answer was on its way', async () => {
    let answer = () => {}
    const question = vi.fn<() => Promise<void>>(() => new Promise<void>((resolve) => (answer = resolve)))
    const ask = askAgain(question)
    void ask()
    void ask()
    await vi.advanceTimersByTimeAsync(5000)
    expect(question).toHaveBeenCalledTimes(1)
    answer()
    await vi.advanceTimersByTimeAsync(1000)
    expect(question).toHaveBeenCalledTimes(2)
  })
})
