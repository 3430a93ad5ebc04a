import { queryOptions } from '@tanstack/react-query'
import { leasesMax } from '../lib/view'
import { client, unwrap } from './client'
import type { LiveSnapshot } from './types'

/** All tenants. The page that shows them asks again and again, because only one tenant at a time is streamed. */
export const tenantsQuery = queryOptions({
  queryKey: ['tenants'],
  queryFn: () => unwrap(client.GET('/api/v1/tenants', { params: { query: { limit: 1000 } } })),
})

/** What the live stream of a tenant begins with, for when there is no stream. */
export async function loadSnapshot(tenant: string): Promise<LiveSnapshot> {
  const path = { tenant }
  const [found, licenses, seats, timeline] = await Promise.all([
    unwrap(client.GET('/api/v1/tenants/{tenant}', { params: { path } })),
    unwrap(client.GET('/api/v1/tenants/{tenant}/licenses', { params: { path, query: { limit: 1000 } } })),
    unwrap(client.GET('/api/v1/tenants/{tenant}/seats', { params: { path, query: { state: 'active', limit: leasesMax } } })),
    unwrap(client.GET('/api/v1/tenants/{tenant}/timeline', { params: { path, query: { limit: 50 } } })),
  ])
  return {
    tenant: found.tenant,
    licenses: licenses.items,
    leases: seats.items,
    leases_more: seats.next !== '',
    events: timeline.items.map((entry) => entry.event),
    names: timeline.names,
    forgotten: timeline.forgotten,
    position: seats.position,
    time: timeline.items[0]?.event.time ?? found.tenant.created_at ?? '',
  }
}

/** The newest events that a query of the timeline finds. */
export const timelineQuery = (tenant: string, q: string) =>
  queryOptions({
    queryKey: ['timeline', tenant, q],
    queryFn: () => unwrap(client.GET('/api/v1/tenants/{tenant}/timeline', { params: { path: { tenant }, query: { q, limit: 50 } } })),
  })

/** Who waits for a seat of a license, in turn. */
export const queueQuery = (tenant: string, license: string) =>
  queryOptions({
    queryKey: ['queue', tenant, license],
    queryFn: () => unwrap(client.GET('/api/v1/tenants/{tenant}/licenses/{license}/queue', { params: { path: { tenant, license } } })),
  })
