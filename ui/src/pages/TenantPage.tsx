import { getRouteApi, Link } from '@tanstack/react-router'
import { useSessionKey } from '../api/session'
import { Announcer } from '../components/Announcer'
import { AsOf } from '../components/AsOf'
import { EventList } from '../components/EventList'
import { LeaseTable } from '../components/LeaseTable'
import { LicenseList } from '../components/LicenseList'
import { ProblemPanel } from '../components/ProblemPanel'
import { SignIn } from '../components/SignIn'
import { Skeleton } from '../components/Skeleton'
import { StatusBadge } from '../components/StateBadge'
import { useTenant } from '../lib/useTenant'
import { useTitle } from '../lib/useTitle'
import type { TenantView } from '../lib/view'

const route = getRouteApi('/t/$tenant')

export function TenantPage() {
  const { tenant } = route.useParams()
  useTitle(tenant)
  return useSessionKey() ? <TenantLive key={tenant} tenant={tenant} /> : <SignIn />
}

function TenantLive({ tenant }: { tenant: string }) {
  const { data, error, isPending, refetch, status, heardAt } = useTenant(tenant)
  return (
    <>
      <Link to="/" className="inline-flex min-h-6 items-center text-link underline-offset-4 hover:underline">
        ← All tenants
      </Link>
      {isPending && (
        <>
          <h1 className="text-xl/7 font-semibold">{tenant}</h1>
          <div className="mt-4">
            <Skeleton rows={5} label="Loading the tenant" />
          </div>
        </>
      )}
      {error && (
        <>
          {!data && <h1 className="text-xl/7 font-semibold">{tenant}</h1>}
          <div className="mt-4">
            <ProblemPanel error={error} retry={() => void refetch()} />
          </div>
        </>
      )}
      {data && <TenantDetails view={data} heardAt={heardAt} fresh={status === 'live' || status === 'connecting'} />}
    </>
  )
}

function TenantDetails({ view, heardAt, fresh }: { view: TenantView; heardAt: number; fresh: boolean }) {
  const { license } = route.useSearch()
  const { tenant, licenses, events, names } = view
  const leases = license ? view.leases.filter((l) => l.license === license) : view.leases
  const inUse = licenses.reduce((sum, l) => sum + l.in_use, 0)
  const seats = licenses.reduce((sum, l) => sum + (l.status === 'revoked' ? 0 : l.seats), 0)
  return (
    <>
      <div className="mt-1 flex flex-wrap items-baseline gap-x-3">
        <h1 className="text-xl/7 font-semibold">{tenant.name}</h1>
        <StatusBadge status={tenant.status} />
      </div>
      <AsOf position={view.position} changedAt={view.receivedAt} heardAt={heardAt} fresh={fresh} />
      <Announcer text={`${inUse} of ${seats} seats in use`} />
      {tenant.status === 'suspended' && (
        <output className="panel mt-4 block rounded-lg border border-warn bg-surface p-4">
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
                <Link from="/t/$tenant" to="." search={{}} className="inline-flex min-h-6 items-center text-link underline-offset-4 hover:underline">
                  Show those of all licenses
                </Link>
              )}
            </div>
            <div className="panel rounded-lg border border-line bg-surface">
              {leases.length === 0 ? (
                <p className="p-4 text-muted">{license ? 'Nobody holds a seat of this license right now.' : 'Nobody holds a seat right now.'}</p>
              ) : (
                <LeaseTable leases={leases} licenses={licenses} />
              )}
              {view.leasesMore && <p className="border-t border-line p-3 text-muted">There are more leases; only the newest are shown here.</p>}
            </div>
          </section>
        </div>
        <section aria-labelledby="events">
          <h2 id="events" className="mb-2 text-base/6 font-semibold">
            Newest events
          </h2>
          <div className="panel rounded-lg border border-line bg-surface p-4">
            <EventList events={events} names={names} licenses={licenses} />
          </div>
        </section>
      </div>
    </>
  )
}

function NoLicenses({ tenant }: { tenant: string }) {
  const command = `curl -sS ${location.origin}/api/v1/tenants/${tenant}/licenses \\
  -H "Authorization: Bearer $(cat data/operator.key)" \\
  -d '{"product":"cad","seats":5}'`
  return (
    <div className="panel rounded-lg border border-line bg-surface p-4">
      <p className="text-muted">No licenses yet. Issue the first one; its answer holds the license key:</p>
      <pre className="mt-3 rounded bg-surface-2 p-3 font-mono whitespace-pre-wrap break-all select-all">{command}</pre>
    </div>
  )
}
