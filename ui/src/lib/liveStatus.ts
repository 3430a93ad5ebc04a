import { useSyncExternalStore } from 'react'
import type { LiveStatus } from '../api/live'

/** How the page in view is kept up to date; 'asking' is a page without a stream, which asks every few seconds. */
export type PageStatus = LiveStatus | 'asking'

/** The state of the page in view, for the header; undefined on a page that does not move. */
let current: PageStatus | undefined
/** Whether the reader holds the page still. */
let paused = false
const listeners = new Set<() => void>()

export function setLiveStatus(status: PageStatus | undefined) {
  current = status
  if (!status) paused = false
  tell()
}

export function togglePaused() {
  paused = !paused
  tell()
}

export function useLiveStatus(): PageStatus | undefined {
  return useSyncExternalStore(listen, () => current)
}

export function usePaused(): boolean {
  return useSyncExternalStore(listen, () => paused)
}

function listen(listener: () => void) {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

function tell() {
  for (const listener of listeners) listener()
}
