import { useId, useState, type SubmitEvent } from 'react'
import { session } from '../api/session'
import { ReasonField } from './ReasonField'

/** Asks for the operator key. */
export function SignIn() {
  const [key, setKey] = useState('')
  const [reason, setReason] = useState(session.reason)
  const [malformed, setMalformed] = useState(false)
  const id = useId()
  const problem = malformed
    ? 'An operator key begins with op_ and is at least 46 characters long.'
    : session.rejected
      ? 'The ledger does not know this key. Copy it again from the file operator.key.'
      : ''
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    const wellFormed = /^op_\S{43,}$/.test(key.trim())
    setMalformed(!wellFormed)
    if (wellFormed && reason.trim() !== '') session.signIn(key, reason)
  }
  return (
    <section className="panel mx-auto mt-8 max-w-md p-6">
      <h1 className="text-xl/7 font-semibold">Sign in</h1>
      <p className="mt-2 text-muted">
        The operator key is in the file <code className="font-mono">operator.key</code> in the ledger’s data folder.
      </p>
      <form onSubmit={submit} noValidate className="mt-4">
        <label htmlFor={id} className="font-medium">
          Operator key
        </label>
        <input
          id={id} type="password" autoComplete="current-password" spellCheck={false} value={key} onChange={(e) => setKey(e.target.value)}
          aria-invalid={problem !== ''} aria-describedby={problem ? `${id}-problem` : undefined}
          className="mt-1 h-9 w-full rounded-md border border-control bg-surface px-3 font-mono"
        />
        {problem && (
          <p id={`${id}-problem`} role="alert" className="mt-2 text-danger">
            {problem}
          </p>
        )}
        <div className="mt-4">
          <ReasonField value={reason} change={setReason} />
        </div>
        <button type="submit" className="mt-4 h-9 rounded-md bg-accent px-4 font-medium text-on-accent">
          Sign in
        </button>
      </form>
    </section>
  )
}
