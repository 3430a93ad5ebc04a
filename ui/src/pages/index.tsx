import { useQuery } from '@tanstack/react-query'
import { createFileRoute, Link } from '@tanstack/react-router'
import { useEffect } from 'react'
import { tenantsQuery } from '../api/queries'
import { useSessionKey } from '../api/session'
import type { TenantSummary } from '../api/types'
import { AsOf } from '../components/AsOf'
import { Command } from '../components/Command'
import { ProblemPanel } from '../components/ProblemPanel'
import { SeatBar } from '../components/SeatBar'
import { SignIn } from '../components/SignIn'
import { Skeleton } from '../components/Skeleton'
import { StatusBadge } from '../components/StateBadge'
import { toServer } from '../lib/clock'
import { setLiveStatus, usePaused } from '../lib/liveStatus'
import { useTitle } from '../lib/useTitle'

export const Route = createFileRoute('/')({ component: TenantsPage })

const askEvery = 5000

function TenantsPage() {
  useTitle('Tenants')
  return useSessionKey() ? <Tenants /> : <SignIn />
}

function Tenants() {
  const paused = usePaused()
  const { data, error, isPending, refetch, dataUpdatedAt } = useQuery({ ...tenantsQuery, refetchInterval: paused ? false : askEvery })
  const answeredAt = toServer(dataUpdatedAt)
  useEffect(() => {
    setLiveStatus('asking')
    return () => setLiveStatus(undefined)
  }, [])
  return (
    <>
      <h1 className="text-xl/7 font-semibold">Tenants</h1>
      {data && <AsOf position={data.position} time={new Date(answeredAt).toISOString()} heardAt={answeredAt} fresh={!error} />}
      <div className="mt-4 grid gap-4">
        {error && <ProblemPanel error={error} retry={() => void refetch()} />}
        {isPending && <Skeleton rows={3} label="Loading tenants" />}
        {data && (data.items.length === 0 ? <NoTenants /> : <TenantList tenants={data.items} />)}
        {data?.next && <p className="text-muted">There are more; these are the first {data.items.length} by id.</p>}
      </div>
    </>
  )
}

function TenantList({ tenants }: { tenants: TenantSummary[] }) {
  return (
    <ul className="grid grid-cols-[repeat(auto-fill,minmax(min(100%,20rem),1fr))] gap-4">
      {tenants.map((tenant) => (
        <li key={tenant.id} className="panel p-4">
          <div className="flex items-baseline justify-between gap-2">
            <h2 className="text-base/6 font-semibold">
              <Link to="/t/$tenant" params={{ tenant: tenant.id }} className="inline-flex min-h-6 items-center text-link underline-offset-4 hover:underline">
                {tenant.name}
              </Link>
            </h2>
            <StatusBadge status={tenant.status} />
          </div>
          <p className="mt-0.5 text-xs/4 text-muted">
            <code className="font-mono">{tenant.id}</code> · {tenant.licenses} {tenant.licenses === 1 ? 'license' : 'licenses'}
          </p>
          <div className="mt-3">
            <SeatBar inUse={tenant.in_use} seats={tenant.seats} />
          </div>
        </li>
      ))}
    </ul>
  )
}

function NoTenants() {
  return (
    <section className="panel p-6">
      <h2 className="text-base/6 font-semibold">No tenants yet</h2>
      <p className="mt-1 text-muted">A tenant is a customer who holds licenses. Create the first one in a terminal, and it appears here:</p>
      <Command path="/tenants" body={{ id: 'acme', name: 'Acme Corp' }} />
    </section>
  )
}
