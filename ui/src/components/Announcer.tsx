import { useEffect, useRef, useState } from 'react'

const atMostEvery = 5000

/** Tells a screen reader the newest text, politely and not more often than every five seconds. */
export function Announcer({ text }: { text: string }) {
  const [said, setSaid] = useState('')
  const last = useRef(0)
  useEffect(() => {
    const wait = Math.max(0, last.current + atMostEvery - Date.now())
    const timer = setTimeout(() => {
      last.current = Date.now()
      setSaid(text)
    }, wait)
    return () => clearTimeout(timer)
  }, [text])
  return (
    <output className="sr-only" aria-live="polite">
      {said}
    </output>
  )
}
