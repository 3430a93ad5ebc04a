import { useMutation } from '@tanstack/react-query'
import { ProblemError } from '../api/client'
import { downloadSeats } from '../api/download'

/** Saves the active leases, all of them, as a CSV. */
export function DownloadSeats({ tenant, license }: { tenant: string; license?: string | undefined }) {
  const { mutate, isPending, error } = useMutation({
    mutationFn: () => downloadSeats(tenant, license ? { state: 'active', license } : { state: 'active' }),
  })
  return (
    <>
      <button type="button" disabled={isPending} onClick={() => mutate()} className="button ml-auto">
        {isPending ? 'Preparing the CSV' : 'Download as CSV'}
      </button>
      {error && (
        <p role="alert" className="w-full text-danger">
          {error instanceof ProblemError ? (error.problem.detail ?? error.problem.title) : 'The file could not be saved.'}
        </p>
      )}
    </>
  )
}
