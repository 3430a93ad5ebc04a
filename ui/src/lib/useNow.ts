import { useSyncExternalStore } from 'react'
import { now as serverNow } from './clock'
import { usePaused } from './liveStatus'
import { useHeld } from './useHeld'

/** One clock for the whole page, so that everything moves on in the same moment. */
let now = serverNow()
let timer: ReturnType<typeof setInterval> | undefined
const listeners = new Set<() => void>()

/** Moves the page's clock to this moment: something new arrived, which is not older than the page. */
export function tick() {
  now = serverNow()
  for (const listener of listeners) listener()
}

/** The server's time in milliseconds, moving on every second, unless the reader paused the page. */
export function useNow(): number {
  return useHeld(useSyncExternalStore(listen, () => now), usePaused())
}

function listen(listener: () => void) {
  if (listeners.size === 0) {
    now = serverNow()
    timer = setInterval(tick, 1000)
  }
  listeners.add(listener)
  return () => {
    listeners.delete(listener)
    if (listeners.size === 0) clearInterval(timer)
  }
}
