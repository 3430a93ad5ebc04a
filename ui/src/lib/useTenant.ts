import { useQuery, useQueryClient } from '@tanstack/react-query'
import { useEffect, useState } from 'react'
import { followTenant, type LiveStatus } from '../api/live'
import { tenantQuery } from '../api/queries'
import { setLiveStatus } from './liveStatus'
import { applyFrame, dropGone, lingerFor, type Frame, type TenantView } from './view'

const pollEvery = 30_000

/** The view of a tenant, kept up to date by the live stream, or by asking again while there is none. */
export function useTenant(tenant: string) {
  const queryClient = useQueryClient()
  const [status, setStatus] = useState<LiveStatus>('connecting')
  const query = useQuery({ ...tenantQuery(tenant), refetchInterval: status === 'polling' ? pollEvery : false })
  const found = query.data !== undefined

  useEffect(() => {
    if (!found) return // an unknown tenant has no stream
    const { queryKey } = tenantQuery(tenant)
    const show = (next: LiveStatus | undefined) => {
      setLiveStatus(next)
      if (next) setStatus(next)
    }
    show('connecting')
    const stop = followTenant(tenant, {
      frame(frame) {
        const now = Date.now()
        queryClient.setQueryData<TenantView>(queryKey, (view) => applyFrame(view, frame, now))
        if (frame.kind === 'change' && frame.data.leases.some((l) => l.state !== 'active')) {
          setTimeout(() => {
            queryClient.setQueryData<TenantView>(queryKey, (view) => view && dropGone(view, Date.now()))
          }, lingerFor + 50)
        }
        // More changed than a frame holds: ask for the whole.
        if (frame.kind === 'change' && frame.data.leases_more) void queryClient.invalidateQueries({ queryKey })
      },
      status: show,
      snapshot: () => snapshotOf(queryClient.getQueryData<TenantView>(queryKey)),
    })
    return () => {
      stop()
      show(undefined)
    }
  }, [tenant, found, queryClient])

  return { ...query, status }
}

function snapshotOf(view: TenantView | undefined): Frame | undefined {
  if (!view) return undefined
  const { tenant, licenses, leases, leasesMore, events, names, position } = view
  return {
    kind: 'snapshot',
    data: {
      tenant, licenses, events, names, position,
      leases: leases.filter((l) => l.state === 'active'), leases_more: leasesMore, time: new Date(view.receivedAt).toISOString(),
    },
  }
}
