import { useSyncExternalStore } from 'react'

/** The operator key of this browser tab, and why staff looks; both end with the tab. */
const storageKey = 'operator-key'
const storageReason = 'reason'
/** The reason of those who give none. */
const defaultReason = 'dashboard'
/** The longest reason that the server takes, in characters. */
export const reasonMax = 500
const listeners = new Set<() => void>()
let rejected = false

export const session = {
  get key(): string {
    return sessionStorage.getItem(storageKey) ?? ''
  },
  /** Whether the server refused the last key. */
  get rejected(): boolean {
    return rejected
  },
  /** Why staff reads what the page shows. The server records it where the tenant sees it. */
  get reason(): string {
    return sessionStorage.getItem(storageReason) ?? defaultReason
  },
  signIn(key: string, reason?: string) {
    rejected = false
    sessionStorage.setItem(storageKey, key.trim())
    sessionStorage.setItem(storageReason, oneLine(reason ?? '') || session.reason)
    tell()
  },
  /** From now on staff reads for another reason: what is open is asked for again. */
  because(reason: string) {
    sessionStorage.setItem(storageReason, oneLine(reason))
    tell()
  },
  signOut() {
    rejected = false
    sessionStorage.removeItem(storageKey)
    sessionStorage.removeItem(storageReason)
    tell()
  },
  /** The server said 401: the key is wrong, or is not valid any more. Says nothing about a key entered since. */
  reject(key: string) {
    if (session.key === '' || session.key !== key) return
    rejected = true
    sessionStorage.removeItem(storageKey)
    tell()
  },
}

/** Signs in with an address `/#key=op_…`, or `/#key=op_…&reason=…`, and takes the key out of the address bar. */
export function signInFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1))
  const key = given.get('key')
  if (!key) return
  session.signIn(key, given.get('reason')?.slice(0, reasonMax))
  history.replaceState(null, '', location.pathname + location.search)
}

/** Calls listener after each sign-in and sign-out, until the returned function is called. */
export function onSession(listener: () => void): () => void {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

export function useSessionKey(): string {
  return useSyncExternalStore(onSession, () => session.key)
}

export function useSessionReason(): string {
  return useSyncExternalStore(onSession, () => session.reason)
}

/**
 * The headers that say who asks and why. A header holds bytes, which fetch takes as one character each: the reason goes as the
 * bytes of its UTF-8.
 */
export function sessionHeaders(): Record<'Authorization' | 'Ledger-Reason', string> {
  const bytes = new TextEncoder().encode(session.reason)
  return { Authorization: `Bearer ${session.key}`, 'Ledger-Reason': Array.from(bytes, (byte) => String.fromCharCode(byte)).join('') }
}

/** As a header can hold it: without control characters, such as the ends of lines. */
const oneLine = (text: string) => text.replace(/[\s\p{Cc}]+/gu, ' ').trim()

function tell() {
  for (const listener of listeners) listener()
}
