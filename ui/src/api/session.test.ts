import { describe, expect, it } from 'vitest'
import { session, signInFromAddress } from './session'

describe('signInFromAddress', () => {
  it('takes the key out of the address', () => {
    history.replaceState(null, '', '/t/acme?license=lic_1#key=op_abc')
    signInFromAddress()
    expect(session.key).toBe('op_abc')
    expect(location.href.endsWith('/t/acme?license=lic_1')).toBe(true)
  })

  it('leaves an address without a key alone', () => {
    history.replaceState(null, '', '/#main')
    signInFromAddress()
    expect(session.key).toBe('')
    expect(location.hash).toBe('#main')
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
