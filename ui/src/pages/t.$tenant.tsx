import { createFileRoute, Link } from '@tanstack/react-router'
import { useSessionKey } from '../api/session'
import { Announcer } from '../components/Announcer'
import { AsOf } from '../components/AsOf'
import { Command } from '../components/Command'
import { DownloadSeats } from '../components/DownloadSeats'
import { EventList } from '../components/EventList'
import { LeaseTable } from '../components/LeaseTable'
import { LicenseList } from '../components/LicenseList'
import { ProblemPanel } from '../components/ProblemPanel'
import { Queue } from '../components/Queue'
import { SeatBar } from '../components/SeatBar'
import { SignIn } from '../components/SignIn'
import { Skeleton } from '../components/Skeleton'
import { StatusBadge } from '../components/StateBadge'
import { FoundEvents, TimelineFilter } from '../components/Timeline'
import { usePaused } from '../lib/liveStatus'
import { useHeld } from '../lib/useHeld'
import { useTenant } from '../lib/useTenant'
import { useTitle } from '../lib/useTitle'
import type { TenantView } from '../lib/view'

/** Filters are in the address: a reload or a copied link shows the same. Bad values fall back. */
interface TenantSearch {
  license?: string
  q?: string
}

export const Route = createFileRoute('/t/$tenant')({
  validateSearch: (search: Record<string, unknown>): TenantSearch => {
    const valid: TenantSearch = {}
    for (const name of ['license', 'q'] as const) {
      const value = search[name]
      if (typeof value === 'string' && value !== '') valid[name] = value
    }
    return valid
  },
  component: TenantPage,
})

function TenantPage() {
  const { tenant } = Route.useParams()
  return useSessionKey() ? <TenantLive key={tenant} tenant={tenant} /> : <SignIn />
}

function TenantLive({ tenant }: { tenant: string }) {
  const { data, error, isPending, refetch, status, heardAt } = useTenant(tenant)
  const view = useHeld(data, usePaused())
  useTitle(view?.tenant.name ?? tenant)
  return (
    <>
      <Link to="/" className="inline-flex min-h-6 items-center text-link underline-offset-4 hover:underline">
        ← All tenants
      </Link>
      {!view && <h1 className="mt-1 text-xl/7 font-semibold">{tenant}</h1>}
      {isPending && (
        <div className="mt-4">
          <Skeleton rows={5} label="Loading the tenant" />
        </div>
      )}
      {error && (
        <div className="mt-4">
          <ProblemPanel error={error} retry={() => void refetch()} />
        </div>
      )}
      {view && <TenantDetails view={view} heardAt={heardAt} fresh={status === 'live' || status === 'connecting'} />}
    </>
  )
}

function TenantDetails({ view, heardAt, fresh }: { view: TenantView; heardAt: number; fresh: boolean }) {
  const { license, q } = Route.useSearch()
  const navigate = Route.useNavigate()
  const { tenant, licenses, events, names, holders } = view
  const leases = license ? view.leases.filter((l) => l.license === license) : view.leases
  const current = licenses.filter((l) => l.status !== 'revoked')
  const inUse = current.reduce((sum, l) => sum + l.in_use, 0)
  const seats = current.reduce((sum, l) => sum + l.seats, 0)
  const queued = license ? licenses.find((l) => l.id === license) : current.length === 1 ? current[0] : undefined
  return (
    <>
      <div className="mt-1 flex flex-wrap items-end justify-between gap-x-8 gap-y-3">
        <div>
          <div className="flex flex-wrap items-baseline gap-x-3">
            <h1 className="text-xl/7 font-semibold">{tenant.name}</h1>
            <StatusBadge status={tenant.status} />
          </div>
          <AsOf position={view.position} time={view.time} heardAt={heardAt} fresh={fresh} />
        </div>
        {current.length > 1 && (
          <div className="w-full sm:w-72" data-testid="total">
            <SeatBar inUse={inUse} seats={seats} />
          </div>
        )}
      </div>
      <Announcer text={`${inUse} of ${seats} seats in use`} />
      {tenant.status === 'suspended' && (
        <output className="banner mt-4">
          <strong>This tenant is suspended.</strong> None of its licenses gives or renews a seat until it is reinstated; running leases run out.
        </output>
      )}
      <div className="mt-6 grid gap-6 xl:grid-cols-[minmax(0,2fr)_minmax(0,1fr)]">
        <div className="grid content-start gap-6">
          <section aria-labelledby="licenses">
            <h2 id="licenses" className="mb-2 text-base/6 font-semibold">
              Licenses
            </h2>
            {licenses.length === 0 ? <NoLicenses tenant={tenant.id} /> : <LicenseList licenses={licenses} selected={license} />}
          </section>
          <section aria-labelledby="leases">
            <div className="mb-2 flex flex-wrap items-baseline gap-x-3">
              <h2 id="leases" className="text-base/6 font-semibold">
                Active leases
              </h2>
              {license && (
                <Link from="/t/$tenant" to="." search={({ q: asked }) => (asked ? { q: asked } : {})} className="inline-flex min-h-6 items-center text-link underline-offset-4 hover:underline">
                  Show those of all licenses
                </Link>
              )}
              <DownloadSeats tenant={tenant.id} license={license} />
            </div>
            <div className="panel">
              {leases.length === 0 ? (
                <p className="p-4 text-muted">{license ? 'Nobody holds a seat of this license right now.' : 'Nobody holds a seat right now.'}</p>
              ) : (
                <LeaseTable leases={leases} licenses={licenses} />
              )}
              {view.leasesMore && <p className="border-t border-line p-3 text-muted">There are more leases; only the newest are shown here.</p>}
            </div>
          </section>
          {current.length > 0 && (
            <section aria-labelledby="queue">
              <h2 id="queue" className="mb-2 text-base/6 font-semibold">
                Waiting for a seat{queued && ` of ${queued.product}`}
              </h2>
              {queued ? <Queue key={queued.id} tenant={tenant.id} license={queued} /> : <p className="panel p-4 text-muted">Choose a license to see who waits for a seat of it.</p>}
            </section>
          )}
        </div>
        <section aria-labelledby="events">
          <h2 id="events" className="mb-2 text-base/6 font-semibold">
            {q ? 'Events found' : 'Newest events'}
          </h2>
          <TimelineFilter q={q ?? ''} onAsk={(asked) => void navigate({ search: { ...(license ? { license } : {}), ...(asked ? { q: asked } : {}) } })} />
          <div className="panel">
            {q ? (
              <FoundEvents tenant={tenant.id} q={q} licenses={licenses} holders={holders} />
            ) : events.length === 0 ? (
              <p className="p-4 text-muted">Nothing has happened yet.</p>
            ) : (
              <EventList events={events} names={names} licenses={licenses} holders={holders} />
            )}
          </div>
        </section>
      </div>
    </>
  )
}

function NoLicenses({ tenant }: { tenant: string }) {
  return (
    <div className="panel p-4">
      <p className="text-muted">No licenses yet. Issue the first one; its answer holds the license key:</p>
      <Command path={`/tenants/${tenant}/licenses`} body={{ product: 'cad', seats: 5 }} />
    </div>
  )
}
