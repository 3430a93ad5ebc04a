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
