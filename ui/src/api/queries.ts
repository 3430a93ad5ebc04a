import { queryOptions } from '@tanstack/react-query'
import type { TenantView } from '../lib/view'
import { client, unwrap } from './client'

/** All tenants; refreshed every few seconds, because only one tenant at a time is streamed. */
export const tenantsQuery = queryOptions({
  queryKey: ['tenants'],
  queryFn: () => unwrap(client.GET('/api/v1/tenants', { params: { query: { limit: 1000 } } })),
  refetchInterval: 5000,
})

/** What the page of a tenant shows. The live stream writes to the same place. */
export function tenantQuery(tenant: string) {
  return queryOptions({
    queryKey: ['tenant', tenant],
    queryFn: () => loadTenant(tenant),
    staleTime: Number.POSITIVE_INFINITY,
  })
}

async function loadTenant(tenant: string): Promise<TenantView> {
  const path = { tenant }
  const [found, licenses, seats, timeline] = await Promise.all([
    unwrap(client.GET('/api/v1/tenants/{tenant}', { params: { path } })),
    unwrap(client.GET('/api/v1/tenants/{tenant}/licenses', { params: { path, query: { limit: 1000 } } })),
    unwrap(client.GET('/api/v1/tenants/{tenant}/seats', { params: { path, query: { state: 'active', limit: 200 } } })),
    unwrap(client.GET('/api/v1/tenants/{tenant}/timeline', { params: { path, query: { limit: 50 } } })),
  ])
  return {
    tenant: found.tenant,
    licenses: licenses.items,
    leases: seats.items,
    leasesMore: seats.next !== '',
    events: timeline.items,
    names: timeline.names,
    position: seats.position,
    receivedAt: Date.now(),
  }
}
