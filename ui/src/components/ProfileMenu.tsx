import { useRef, useState, type SubmitEvent } from 'react'
import { session, useSessionKey, useSessionReason } from '../api/session'
import { ReasonField } from './ReasonField'

/** Who is signed in and why, and the way out. A native popover: Escape and a click beside it close it. */
export function ProfileMenu() {
  const key = useSessionKey()
  const reason = useSessionReason()
  const menu = useRef<HTMLDivElement>(null)
  if (!key) return null
  return (
    <>
      <button type="button" popoverTarget="profile" className="inline-flex h-9 min-w-9 items-center justify-center rounded-full bg-accent px-2 font-semibold text-on-accent">
        OP<span className="sr-only">, account menu</span>
      </button>
      <div ref={menu} id="profile" popover="auto" className="fixed inset-auto top-14 right-4 m-0 w-64 rounded-lg border border-line bg-surface p-4 text-fg shadow-lg">
        <p className="font-semibold">Operator</p>
        <p className="mt-1 text-muted">Signed in with the operator key, in this tab only.</p>
        <ChangeReason key={reason} reason={reason} done={() => menu.current?.hidePopover()} />
        <button type="button" onClick={() => session.signOut()} className="button mt-3 w-full">
          Sign out
        </button>
      </div>
    </>
  )
}

function ChangeReason({ reason, done }: { reason: string; done: () => void }) {
  const [next, setNext] = useState(reason)
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    if (next.trim() === '') return
    done()
    session.because(next)
  }
  return (
    <form onSubmit={submit} noValidate className="mt-3">
      <ReasonField value={next} change={setNext} />
      <button type="submit" className="button mt-2 w-full">
        Look for this reason
      </button>
    </form>
  )
}
