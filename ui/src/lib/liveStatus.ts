import { useSyncExternalStore } from 'react'
import type { LiveStatus } from '../api/live'

/** The live state of the page in view, for the header; undefined on a page that is not live. */
let current: LiveStatus | undefined
const listeners = new Set<() => void>()

export function setLiveStatus(status: LiveStatus | undefined) {
  current = status
  for (const listener of listeners) listener()
}

export function useLiveStatus(): LiveStatus | undefined {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    () => current,
  )
}
