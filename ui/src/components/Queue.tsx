import type { License, LicenseQueue, Waiter } from '../api/types'
import { about, ago, fullTime, timeOfDay } from '../lib/time'
import { useNow } from '../lib/useNow'
import { useQueue } from '../lib/useQueue'
import { ProblemPanel } from './ProblemPanel'
import { Skeleton } from './Skeleton'
import { Cell, Row, Table } from './Table'

/** Of a longer queue only the beginning is drawn. */
const drawnWaiters = 50

/** Who waits for a seat of a license, in turn. Give it the license as its key: it follows one. */
export function Queue({ tenant, license }: { tenant: string; license: License }) {
  const { data, error, isPending, dataUpdatedAt, refetch } = useQueue(tenant, license)
  if (isPending) return <Skeleton rows={2} label="Loading the queue" />
  if (!data) return error && <ProblemPanel error={error} retry={() => void refetch()} />
  return (
    <div className="panel">
      {error && (
        <p role="alert" className="flex flex-wrap items-center gap-x-3 gap-y-2 border-b border-line p-3 text-warn">
          <span>
            <strong>Not updated since {timeOfDay(new Date(dataUpdatedAt).toISOString())}.</strong> {error.message}.
          </span>
          <button type="button" className="button text-fg" onClick={() => void refetch()}>
            Retry
          </button>
        </p>
      )}
      {data.waiting === 0 ? (
        <p className="p-4 text-muted">
          Nobody waits; {data.in_use} of {data.seats} seats are in use.
        </p>
      ) : (
        <Waiters queue={data} license={license} />
      )}
    </div>
  )
}

function Waiters({ queue, license }: { queue: LicenseQueue; license: License }) {
  const now = useNow()
  const ranked = queue.items.some((w) => w.priority > 0)
  const known = queue.items.some((w) => w.estimate_seconds !== undefined)
  const more = queue.waiting - drawnWaiters
  return (
    <>
      <Table caption={`Queue of ${license.product}`} titles={['Place', 'User', 'Machine', 'Process', ...(ranked ? ['Priority'] : []), 'Since', 'Seat in']}>
        {queue.items.slice(0, drawnWaiters).map((waiter) => (
          <Row key={keyOf(waiter)} data-place={waiter.position}>
            <Cell name="Place">
              <span className="font-medium tabular-nums">{waiter.position}</span>
            </Cell>
            <Cell name="User">{waiter.user ? <span className="font-medium">{waiter.user}</span> : <em>forgotten</em>}</Cell>
            <Cell name="Machine">{waiter.machine || <em>forgotten</em>}</Cell>
            <Cell name="Process">{waiter.process ?? '–'}</Cell>
            {ranked && <Cell name="Priority">{priorityText(waiter, license)}</Cell>}
            <Cell name="Since">
              <time dateTime={waiter.since} title={fullTime(waiter.since)}>
                {ago(waiter.since, now)}
              </time>
            </Cell>
            <Cell name="Seat in">{waiter.estimate_seconds === undefined ? 'unknown' : about(waiter.estimate_seconds)}</Cell>
          </Row>
        ))}
      </Table>
      <p className="border-t border-line p-3 text-xs/4 text-muted">
        {more > 0 && `${more} more wait behind these. `}
        {queue.in_use} of {queue.seats} seats in use.{' '}
        {known ? 'A seat is expected at the pace at which the last ones were given back.' : 'No seat was given back yet, so nobody can say when one comes free.'}
      </p>
    </>
  )
}

const keyOf = (w: Waiter) => [w.user, w.machine, w.process, w.since].join('\0')

/** "1, render team": the priority that a waiter came with, and the reservation that gives it, if it still does. */
function priorityText(waiter: Waiter, license: License): string {
  const group = license.reservations.find((r) => r.priority === waiter.priority && r.users.includes(waiter.user))
  return group ? `${waiter.priority}, ${group.name}` : String(waiter.priority)
}
