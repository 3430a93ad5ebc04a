import { useQuery, useQueryClient } from '@tanstack/react-query'
import { useEffect, useRef, useState } from 'react'
import { mayPass } from '../api/client'
import { followTenant, type LiveStatus } from '../api/live'
import { loadSnapshot } from '../api/queries'
import { askAgain } from './askAgain'
import { now } from './clock'
import { setLiveStatus } from './liveStatus'
import { tick } from './useNow'
import { applyFrame, dropGone, lacksLeases, lingerFor, type Frame, type TenantView } from './view'

/** How often what has no stream is asked for, and how soon what could not be loaded is tried again, in milliseconds. */
export const pollEvery = 30_000
export const retryEvery = 5000

/**
 * The view of a tenant, kept up to date by the live stream, or by asking again while there is none. `heardAt` is when
 * the server last said anything, in milliseconds.
 */
export function useTenant(tenant: string) {
  const queryClient = useQueryClient()
  const [status, setStatus] = useState<LiveStatus>('connecting')
  const [heardAt, setHeardAt] = useState(0)
  // Frames that arrive while an answer is on its way: they may be newer than it, and go on top.
  const meanwhile = useRef<Frame[]>([])
  const query = useQuery({
    queryKey: keyOf(tenant),
    queryFn: async ({ client, queryKey }) => {
      meanwhile.current = []
      const data = await loadSnapshot(tenant)
      const before = client.getQueryData<TenantView>(queryKey)
      return [{ kind: 'snapshot', data } as Frame, ...meanwhile.current].reduce((view, frame) => applyFrame(view, frame, now()), before) as TenantView
    },
    staleTime: Number.POSITIVE_INFINITY, // the stream keeps it fresh
    structuralSharing: false, // an object that came anew is a new object, also when it looks like the one before: see useQueue
    refetchInterval: ({ state }) => {
      if (!state.data) return state.error && mayPass(state.error) ? retryEvery : false
      return status === 'polling' ? pollEvery : false
    },
  })
  const found = query.data !== undefined

  useEffect(() => {
    if (!found) return // an unknown tenant has no stream
    const queryKey = keyOf(tenant)
    const update = (change: (view: TenantView | undefined) => TenantView | undefined) => queryClient.setQueryData<TenantView>(queryKey, change)
    const show = (next: LiveStatus | undefined) => {
      setLiveStatus(next)
      if (next) setStatus(next)
    }
    const ask = askAgain(() => queryClient.refetchQueries({ queryKey, type: 'active' }))
    show('connecting')
    const stop = followTenant(tenant, {
      frame(frame) {
        if (queryClient.isFetching({ queryKey }) > 0) meanwhile.current.push(frame)
        tick()
        const view = update((before) => applyFrame(before, frame, now()))
        if (frame.kind === 'snapshot') return
        if (frame.data.leases.some((l) => l.state !== 'active')) {
          setTimeout(() => update((before) => before && dropGone(before, now())), lingerFor + 50)
        }
        if (frame.data.leases_more || (view && lacksLeases(view))) void ask()
      },
      status: show,
      heard: () => setHeardAt(now()),
      snapshot: () => snapshotOf(queryClient.getQueryData<TenantView>(queryKey)),
    })
    return () => {
      stop()
      show(undefined)
    }
  }, [tenant, found, queryClient])

  return { ...query, status, heardAt: Math.max(heardAt, query.data?.receivedAt ?? 0) }
}

const keyOf = (tenant: string) => ['tenant', tenant]

function snapshotOf(view: TenantView | undefined): Frame | undefined {
  if (!view) return undefined
  const { tenant, licenses, leases, leasesMore, events, names, position, time } = view
  return {
    kind: 'snapshot',
    data: {
      tenant, licenses, events, names, position, time,
      forgotten: [], // those that have no name
      leases: leases.filter((l) => l.state === 'active'), leases_more: leasesMore,
    },
  }
}
