import { describe, expect, it } from 'vitest'
import { about, ago, duration, until } from './time'

const now = Date.parse('2026-01-02T03:04:05Z')
const at = (seconds: number) => new Date(now + seconds * 1000).toISOString()

describe('time', () => {
  it.each([[0, 'now'], [-3, '3 seconds ago'], [-119, '1 minute ago'], [-7200, '2 hours ago'], [-86_400, 'yesterday'], [1, 'now']])('%d s from now is "%s"', (seconds, want) => {
    expect(ago(at(seconds), now)).toBe(want)
  })
  it.each([[-1, 'now'], [0, 'now'], [59.4, '59 s'], [245, '4 m 05 s']])('%d s ahead is "%s"', (seconds, want) => {
    expect(until(at(seconds), now)).toBe(want)
  })
  it.each([[3720, '1 h 02 m'], [183_600, '2 d 3 h']])('%d s are "%s"', (seconds, want) => {
    expect(duration(seconds)).toBe(want)
  })
  it.each([[1, 'less than a minute'], [59, 'less than a minute'], [60, 'about 1 min'], [140, 'about 2 min'], [7140, 'about 119 min'], [7200, 'about 2 h']])('%d s are "%s"', (seconds, want) => {
    expect(about(seconds)).toBe(want)
  })
})
