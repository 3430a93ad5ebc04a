import { useState } from 'react'

/** The newest value; while it is held, the one from when the hold began. */
export function useHeld<T>(value: T, held: boolean): T {
  const [kept, setKept] = useState(value)
  if (!held && kept !== value) setKept(value)
  return held ? kept : value
}
