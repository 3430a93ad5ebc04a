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
    [event('seat.denied', { license: 'lic_1', user: 'user_1', machine: 'machine_1', reason: 'no_seat_available', count: 12 }), 'Seat denied', 'ada on ws-1, cad: all seats in use, 12 times'],
    [event('seat.queued', { license: 'lic_1', user: 'user_1', machine: 'machine_1', position: 3 }), 'Waits for a seat', 'ada on ws-1, cad, number 3'],
    [event('seat.dequeued', { license: 'lic_1', user: 'user_1', machine: 'machine_1', cause: 'left' }), 'Left the queue', 'ada on ws-1, cad: hung up'],
    [event('seat.dequeued', { license: 'lic_1', user: 'user_1', machine: 'machine_1', cause: 'absent' }), 'Left the queue', 'ada on ws-1, cad: did not ask again'],
    [event('seat.dequeued', { license: 'lic_1', user: 'user_1', machine: 'machine_1', cause: 'refused', reason: 'license_suspended' }), 'Left the queue', 'ada on ws-1, cad: license suspended'],
    [event('seat.acquired', { license: 'lic_1', lease: 'lse_2', user: 'user_1', machine: 'machine_1', borrowed: true, expires_at: '2027-01-02T03:04:05Z' }), 'Seat borrowed', 'ada on ws-1, cad, until 2027-01-02 03:04 UTC'],
    [event('seat.borrowed', { license: 'lic_1', lease: 'lse_1', expires_at: '2027-01-02T03:04:05Z' }), 'Seat borrowed', 'ada on ws-1, cad, until 2027-01-02 03:04 UTC'],
    [event('member.invited', { user: 'user_1', role: 'admin' }), 'Member invited', 'ada, admin'],
    [event('member.role_changed', { user: 'user_1', role: 'owner', was: 'admin' }), 'Role changed', 'ada, admin → owner'],
    [event('member.removed', { user: 'user_gone', was: 'admin', reason: 'left' }), 'Member removed', 'forgotten: left'],
    [event('key.created', { key: { id: 'key_1' }, name: 'ci', role: 'auditor' }), 'Key created', 'ci, auditor'],
    [event('key.rotated', { key: { id: 'key_2' }, old_key: 'key_1', old_until: '2027-01-02T03:04:05Z' }), 'Key rotated', 'key_1, valid until 2027-01-02 03:04 UTC'],
    [event('key.revoked', { key: 'key_1', reason: 'lost' }), 'Key revoked', 'key_1: lost'],
    [event('staff.read', { permission: 'license.read', reason: 'ticket 4711' }), 'Read by staff', 'license.read: ticket 4711'],
    [event('license.resized', { license: 'lic_1', seats: 7, was: 5 }), 'License resized', 'cad, 5 → 7 seats'],
    [event('license.policy_changed', { license: 'lic_1', policy: { lease_seconds: 300, seat_per: 'user' }, was: { lease_seconds: 300, max_per_user: 1 } }), 'Policy changed', 'cad: max per user, seat per'],
    [event('license.renewed', { license: 'lic_1', expires_at: '2027-01-02T03:04:05Z' }), 'License renewed', 'cad, until 2027-01-02'],
    [event('license.renewed', { license: 'lic_1' }), 'License renewed', 'cad, no end'],
    [event('license.trial_converted', { license: 'lic_1' }), 'Trial converted', 'cad'],
    [event('license.key_rotated', { license: 'lic_1', old_until: '2027-01-02T03:04:05Z' }), 'Key rotated', 'cad, old key valid until 2027-01-02 03:04 UTC'],
    [event('seat.revived', { license: 'lic_1', leases: ['lse_1'] }), 'Seat revived', 'ada on ws-1, cad'],
    [event('seat.evicted', { license: 'lic_1', leases: ['lse_1'], cause: 'operator', reason: 'left' }), 'Seat evicted', 'ada on ws-1, cad: left'],
    [event('seat.evicted', { license: 'lic_1', leases: ['lse_1', 'lse_2'], cause: 'license_shrunk' }), 'Seat evicted', 'ada on ws-1, lse_2, cad: fewer seats'],
    [event('tenant.suspended', { reason: 'unpaid' }), 'Tenant suspended', 'unpaid'],
    [event('person.forgotten', { pseudonym: 'u_1', kind: 'user', reason: 'asked' }), 'Forgotten', 'a user, known as u_1: asked'],
  ])('says what happened', (e, verb, about) => {
    expect(words(e)).toMatchObject({ verb, about })
  })
  it('says that a name is forgotten', () => {
    expect(words(acquired, {} as typeof names).about).toBe('forgotten on forgotten, cad')
  })
  it('shows an event that it does not know', () => {
    expect(words(event('seat.teleported', {})).verb).toBe('ai.coditect.seat.teleported.v1')
  })
})
