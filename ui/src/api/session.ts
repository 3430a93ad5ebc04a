import { useSyncExternalStore } from 'react'

/** The operator key of this browser tab; it ends with the tab. */
const storageKey = 'operator-key'
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
  signIn(key: string) {
    rejected = false
    sessionStorage.setItem(storageKey, key.trim())
    tell()
  },
  signOut() {
    rejected = false
    sessionStorage.removeItem(storageKey)
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

/** Signs in with the address `/#key=op_…` that the server prints, and takes the key out of the address bar. */
export function signInFromAddress() {
  const key = new URLSearchParams(location.hash.slice(1)).get('key')
  if (!key) return
  session.signIn(key)
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

function tell() {
  for (const listener of listeners) listener()
}
