import { describe, expect, it } from 'vitest'
import { acquired, change, event, lease, license, names, snapshot } from '../test/ledger'
import { applyFrame, dropGone, lacksLeases, leasesMax, lingerFor, rulesOf, type TenantView } from './view'

const start = (over = {}) => applyFrame(undefined, { kind: 'snapshot', data: snapshot(over) }, 1000) as TenantView
const after = (view: TenantView, over: object, now = 2000) => applyFrame(view, { kind: 'change', data: change(over) }, now) as TenantView

describe('applyFrame', () => {
  it('shows a snapshot', () => {
    expect(start()).toMatchObject({ leases: [{ id: 'lse_1' }], events: [acquired], names, position: 'position-1', receivedAt: 1000 })
  })

  it('drops a change before the first snapshot', () => {
    expect(applyFrame(undefined, { kind: 'change', data: change() }, 1000)).toBeUndefined()
  })

  it('replaces what changed and keeps the rest', () => {
    const view = after(start(), { licenses: [{ ...license, in_use: 2 }], leases: [lease('lse_2', { fence: 9 })], position: 'position-2' })
    expect(view.licenses).toEqual([{ ...license, in_use: 2 }])
    expect(view.leases.map((l) => l.id)).toEqual(['lse_2', 'lse_1'])
    expect(view).toMatchObject({ position: 'position-2', receivedAt: 2000 })
  })

  it('has a license that came anew as a new object, and no other', () => {
    const view = start({ licenses: [license, { ...license, id: 'lic_2' }] })
    const next = after(view, { licenses: [{ ...license }] })
    expect(next.licenses).toEqual(view.licenses)
    expect(next.licenses[0]).not.toBe(view.licenses[0])
    expect(next.licenses[1]).toBe(view.licenses[1])
  })

  it('renews a lease in its place', () => {
    const view = after(start(), { leases: [lease('lse_1', { expires_at: '2030-01-01T00:00:00Z' })] })
    expect(view.leases).toHaveLength(1)
    expect(view.leases[0]?.expires_at).toBe('2030-01-01T00:00:00Z')
  })

  it('keeps an ended lease for a moment, through a new snapshot, too', () => {
    let view = after(start(), { leases: [lease('lse_1', { state: 'released' })] }, 2000)
    expect(view.leases[0]).toMatchObject({ state: 'released', goneAt: 2000 + lingerFor })
    view = applyFrame(view, { kind: 'snapshot', data: snapshot({ leases: [] }) }, 3000) as TenantView
    expect(view.leases).toHaveLength(1)
    expect(dropGone(view, 2000 + lingerFor - 1)).toBe(view)
    expect(dropGone(view, 2000 + lingerFor).leases).toEqual([])
  })

  it('does not show a lease that had ended before it was seen', () => {
    expect(after(start(), { leases: [lease('lse_9', { state: 'expired' })] }).leases.map((l) => l.id)).toEqual(['lse_1'])
  })

  it('does not repeat events that an answer had before the stream', () => {
    const view = after(start(), { events: [acquired, event('seat.released', {}, '10'), event('seat.released', {}, '4')] })
    expect(view.events.map((e) => e.version)).toEqual(['10', '4', '3'])
  })

  it('puts the newest lease first, whatever its license', () => {
    const at = (time: string, fence: number, of: string) => ({ acquired_at: `2026-01-01T00:00:${time}Z`, fence, license: of })
    const view = start({ leases: [lease('old', at('01', 900, 'lic_1')), lease('new', at('02.5', 1, 'lic_2')), lease('mid', at('02', 2, 'lic_2'))] })
    expect(view.leases.map((l) => l.id)).toEqual(['new', 'mid', 'old'])
  })

  it('keeps the newest leases, and knows when it lacks some', () => {
    const many = Array.from({ length: leasesMax + 5 }, (_, i) => lease(`lse_${i}`, { fence: i, acquired_at: new Date(i).toISOString() }))
    const inUse = { licenses: [{ ...license, in_use: leasesMax + 5 }] }
    const view = after(start({ leases: [] }), { leases: many, ...inUse })
    expect(view.leases).toHaveLength(leasesMax)
    expect(view.leases[0]?.id).toBe(`lse_${leasesMax + 4}`)
    expect(view.leasesMore).toBe(true)
    expect(lacksLeases(view)).toBe(false)
    expect(lacksLeases(after(view, { leases: [{ ...many[50], state: 'released' }] }))).toBe(true)
  })

  it('puts new events first, and keeps fifty', () => {
    const many = Array.from({ length: 60 }, (_, i) => event('seat.released', {}, String(i + 10)))
    const view = after(start(), { events: many })
    expect(view.events).toHaveLength(50)
    expect(view.events[0]?.version).toBe('69')
    expect(view.events.at(-1)?.version).toBe('20')
  })
})

describe('who held a lease', () => {
  const released = event('seat.released', { license: 'lic_1', lease: 'lse_1' }, '4')

  it('is known from its acquire', () => {
    expect(start({ leases: [] }).holders).toEqual({ lse_1: 'ada on ws-1' })
  })
  it('is remembered when its acquire is older than the page goes back', () => {
    let view = start({ events: [] })
    view = after(view, { leases: [lease('lse_1', { state: 'released' })], events: [released] })
    view = dropGone(view, 2000 + lingerFor)
    expect(after(view, {}).holders).toEqual({ lse_1: 'ada on ws-1' })
    const again = snapshot({ leases: [], events: [released] })
    expect(applyFrame(view, { kind: 'snapshot', data: again }, 9000)?.holders).toEqual({ lse_1: 'ada on ws-1' })
  })
  it('is known from a lease that was never listed', () => {
    const expired = event('seat.expired', { license: 'lic_1', lease: 'lse_9' }, '4')
    expect(after(start(), { leases: [lease('lse_9', { user: 'bob', state: 'expired' })], events: [expired] }).holders).toMatchObject({ lse_9: 'bob on ws-1' })
  })
  it('is forgotten when the directory forgot', () => {
    const forgotten = snapshot({ leases: [], names: {} })
    expect(applyFrame(start(), { kind: 'snapshot', data: forgotten }, 2000)?.holders).toEqual({ lse_1: 'forgotten on forgotten' })
  })
  it('is not remembered from before somebody was forgotten', () => {
    const view = start({ events: [] })
    const ended = after(view, { leases: [lease('lse_1', { state: 'released' })], events: [released] })
    const told = event('person.forgotten', { pseudonym: 'user_1', kind: 'user' }, '9')
    const again = applyFrame(ended, { kind: 'snapshot', data: snapshot({ leases: [], events: [told, released], names: {} }) }, 2000)
    expect(again).toMatchObject({ leases: [], holders: {} })
  })
  it('is dropped with the last event about it', () => {
    const others = { events: Array.from({ length: 50 }, (_, i) => event('seat.denied', {}, String(i + 10))) }
    const ended = after(start(), { leases: [lease('lse_1', { state: 'released' })] })
    expect(after(ended, others).holders).toEqual({ lse_1: 'ada on ws-1' }) // still struck through on the page
    expect(after(dropGone(ended, 2000 + lingerFor), others).holders).toEqual({})
  })
})

describe('rulesOf', () => {
  it('says nothing of defaults', () => expect(rulesOf(license)).toEqual([]))
  it('says what is not the default', () =>
    expect(rulesOf({
      ...license, trial: true, seat_per: 'machine', overage: 'percent', overage_percent: 10, max_per_user: 2, max_per_machine: 3,
      reservations: [{ name: 'render team', users: ['ada', 'bob'], seats: 2, priority: 1 }], borrow_days: 7, borrow_max: 2, borrow_low_water: 1,
      features: ['cam', 'sim'], starts_at: '2026-01-02T00:00:00Z', expires_at: '2027-01-02T00:00:00Z', grace_days: 7,
    })).toEqual([
      'Trial', 'One seat per machine', 'Overage up to 10 %', 'At most 2 per user', 'At most 3 per machine', '2 reserved for render team',
      'Offline up to 7 days, 2 at once, 1 stay online', 'Features: cam, sim',
      'From 2026-01-02', 'Until 2027-01-02, 7 days grace',
    ]))
})
