import { useEffect, useState } from 'react'
import { now } from './clock'

/** The server's time in milliseconds, moving on every second. */
export function useNow(): number {
  const [time, setTime] = useState(now)
  useEffect(() => {
    const timer = setInterval(() => setTime(now()), 1000)
    return () => clearInterval(timer)
  }, [])
  return time
}
