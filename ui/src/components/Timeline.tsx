import { useQuery } from '@tanstack/react-query'
import { useId } from 'react'
import { ProblemError } from '../api/client'
import { timelineQuery } from '../api/queries'
import type { License } from '../api/types'
import { EventList } from './EventList'
import { ProblemPanel } from './ProblemPanel'
import { Skeleton } from './Skeleton'

/** Asks for events in the language of the timeline; `q` is what was asked for, empty for nothing. */
export function TimelineFilter({ q, onAsk }: { q: string; onAsk: (q: string) => void }) {
  const id = useId()
  return (
    <search>
      <form
        className="mb-2"
        onSubmit={(e) => {
          e.preventDefault()
          onAsk(String(new FormData(e.currentTarget).get('q') ?? '').trim())
        }}
      >
        <label htmlFor={id} className="text-xs/4 text-muted">
          Find events, such as type:seat.denied user:ada after:2026-01-01
        </label>
        <div className="mt-1 flex gap-2">
          <input id={id} key={q} name="q" defaultValue={q} maxLength={1000} autoComplete="off" spellCheck={false} className="h-8 min-w-0 flex-1 rounded-md border border-control bg-surface px-3 font-mono" />
          <button type="submit" className="button">
            Find
          </button>
          {q && (
            <button type="button" className="button" onClick={() => onAsk('')}>
              Show all
            </button>
          )}
        </div>
      </form>
    </search>
  )
}

interface Props {
  tenant: string
  q: string
  licenses: License[]
  holders: Record<string, string>
}

/** The newest events that a query finds. */
export function FoundEvents({ tenant, q, licenses, holders }: Props) {
  const { data, error, isPending, refetch } = useQuery(timelineQuery(tenant, q))
  if (error instanceof ProblemError && error.problem.field === 'q') {
    return (
      <p role="alert" className="p-4 text-danger">
        {error.problem.detail}
      </p>
    )
  }
  if (error) return <ProblemPanel error={error} retry={() => void refetch()} />
  if (isPending) return <Skeleton rows={3} label="Looking for events" />
  if (data.items.length === 0) return <p className="p-4 text-muted">No event is like this.</p>
  return (
    <>
      <EventList events={data.items.map((entry) => entry.event)} names={data.names} licenses={licenses} holders={holders} />
      {data.next && <p className="border-t border-line p-3 text-muted">There are more; these are the newest.</p>}
    </>
  )
}
