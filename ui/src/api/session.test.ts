import { describe, expect, it } from 'vitest'
import { session, sessionHeaders, signInFromAddress } from './session'

describe('signInFromAddress', () => {
  it('takes the key out of the address', () => {
    history.replaceState(null, '', '/t/acme?license=lic_1#key=op_abc')
    signInFromAddress()
    expect(session.key).toBe('op_abc')
    expect(location.href.endsWith('/t/acme?license=lic_1')).toBe(true)
  })

  it('takes the reason from it, too', () => {
    history.replaceState(null, '', '/#key=op_abc&reason=ticket%204711')
    signInFromAddress()
    expect(session.reason).toBe('ticket 4711')
    expect(location.hash).toBe('')
  })

  it('leaves an address without a key alone', () => {
    history.replaceState(null, '', '/#main')
    signInFromAddress()
    expect(session.key).toBe('')
    expect(location.hash).toBe('#main')
  })
})

describe('the reason', () => {
  it('is sent as the bytes of its UTF-8, in one line', () => {
    session.signIn('op_abc', ' Störung\n4711 ')
    expect(session.reason).toBe('Störung 4711')
    expect(sessionHeaders()).toEqual({ Authorization: 'Bearer op_abc', 'Ledger-Reason': 'StÃ¶rung 4711' })
  })

  it('is the one of before where none is given', () => {
    session.signIn('op_abc', 'ticket\u0000\u0085 4711')
    expect(session.reason).toBe('ticket 4711')
    history.replaceState(null, '', '/#key=op_abc&reason=%20%00')
    signInFromAddress()
    expect(session.reason).toBe('ticket 4711')
  })

  it('stays for who signs in again, and goes when they sign out', () => {
    expect(session.reason).toBe('dashboard')
    session.signIn('op_abc', 'ticket 4711')
    session.reject('op_abc')
    session.signIn('op_def')
    expect(session.reason).toBe('ticket 4711')
    session.signOut()
    expect(session.reason).toBe('dashboard')
  })
})

describe('a refusal', () => {
  it('forgets the key that was refused, not one entered since', () => {
    session.signIn('op_new')
    session.reject('op_old')
    expect(session).toMatchObject({ key: 'op_new', rejected: false })
    session.reject('op_new')
    expect(session).toMatchObject({ key: '', rejected: true })
  })
})
