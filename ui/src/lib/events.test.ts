import { describe as suite, expect, it } from 'vitest'
import { acquired, event, license, names } from '../test/ledger'
import { describe } from './events'

const words = (e: ReturnType<typeof event>, known = names) => describe(e, known, [license], { lse_1: 'ada on ws-1' })

suite('words of events', () => {
  it.each([
    [acquired, 'Seat acquired', 'ada on ws-1, cad'],
    [event('seat.released', { license: 'lic_1', lease: 'lse_1' }), 'Seat released', 'ada on ws-1, cad'],
    [event('seat.expired', { license: 'lic_1', lease: 'lse_other' }), 'Seat expired', 'lse_other, cad'],
    [event('seat.denied', { license: 'lic_1', user: 'user_1', machine: 'machine_1', reason: 'no_seat_available' }), 'Seat denied', 'ada on ws-1, cad: all seats in use'],
    [event('license.resized', { license: 'lic_1', seats: 7, was: 5 }), 'License resized', 'cad, 5 → 7 seats'],
    [event('tenant.suspended', { reason: 'unpaid' }), 'Tenant suspended', 'unpaid'],
  ])('says what happened', (e, verb, about) => {
    expect(words(e)).toMatchObject({ verb, about })
  })
  it('says that a name is forgotten', () => {
    expect(words(acquired, {} as typeof names).about).toBe('forgotten on forgotten, cad')
  })
  it('shows an event that it does not know', () => {
    expect(words(event('seat.borrowed', {})).verb).toBe('ai.coditect.seat.borrowed.v1')
  })
})
