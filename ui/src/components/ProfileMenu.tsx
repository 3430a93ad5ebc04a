import { session, useSessionKey } from '../api/session'

/** Who is signed in, and the way out. A native popover: Escape and a click beside it close it. */
export function ProfileMenu() {
  const key = useSessionKey()
  if (!key) return null
  return (
    <>
      <button type="button" popoverTarget="profile" className="inline-flex h-9 min-w-9 items-center justify-center rounded-full bg-accent px-2 font-semibold text-on-accent">
        OP<span className="sr-only">, account menu</span>
      </button>
      <div id="profile" popover="auto" className="fixed inset-auto top-14 right-4 m-0 w-64 rounded-lg border border-line bg-surface p-4 text-fg shadow-lg">
        <p className="font-semibold">Operator</p>
        <p className="mt-1 text-muted">Signed in with the operator key, in this tab only.</p>
        <button type="button" onClick={() => session.signOut()} className="button mt-3 w-full">
          Sign out
        </button>
      </div>
    </>
  )
}
