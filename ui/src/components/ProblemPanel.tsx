import { ProblemError } from '../api/client'

/** What went wrong, what to do, and how to try again. Other parts of the page go on. */
export function ProblemPanel({ error, retry }: { error: Error; retry: () => void }) {
  const problem = error instanceof ProblemError ? error.problem : undefined
  return (
    <section role="alert" className="panel border-danger p-4">
      <h2 className="font-semibold text-danger">{problem?.title ?? 'Something went wrong on this page'}</h2>
      <p className="mt-1">{problem?.detail ?? error.message}</p>
      {problem?.request_id && (
        <p className="mt-1 text-muted">
          Request <code className="font-mono select-all">{problem.request_id}</code>
        </p>
      )}
      <button type="button" onClick={retry} className="button mt-3 px-4">
        Retry
      </button>
    </section>
  )
}
