import type { Event, Lease, License, LiveChange, LiveSnapshot, Tenant } from '../api/types'

/** A lease on the page. One that ended stays for a moment, struck through. */
export type ShownLease = Lease & { goneAt?: number }

/** All that the page of one tenant shows. */
export interface TenantView {
  tenant: Tenant
  licenses: License[]
  /** Newest first. */
  leases: ShownLease[]
  leasesMore: boolean
  /** Newest first. */
  events: Event[]
  /** Clear text by pseudonym. */
  names: Record<string, string>
  position: string
  /** When this browser learned of it, in milliseconds. */
  receivedAt: number
}

/** A frame of the live stream. */
export type Frame = { kind: 'snapshot'; data: LiveSnapshot } | { kind: 'change'; data: LiveChange }

/** How long an ended lease stays on the page, in milliseconds. */
export const lingerFor = 5000
const eventsMax = 50

/** The view after a frame. A change without a view to change is dropped: a snapshot comes first. */
export function applyFrame(view: TenantView | undefined, frame: Frame, now: number): TenantView | undefined {
  if (frame.kind === 'snapshot') return fromSnapshot(frame.data, view, now)
  if (!view) return undefined
  const { data } = frame
  return {
    tenant: data.tenant ?? view.tenant,
    licenses: mergeById(view.licenses, data.licenses),
    leases: mergeLeases(view.leases, data.leases, now),
    leasesMore: view.leasesMore || data.leases_more,
    events: [...data.events.toReversed(), ...view.events].slice(0, eventsMax),
    names: { ...view.names, ...data.names },
    position: data.position,
    receivedAt: now,
  }
}

function fromSnapshot(data: LiveSnapshot, before: TenantView | undefined, now: number): TenantView {
  const lingering = before?.leases.filter((l) => l.goneAt !== undefined && l.goneAt > now) ?? []
  return {
    tenant: data.tenant,
    licenses: data.licenses,
    leases: newestFirst([...data.leases, ...lingering]),
    leasesMore: data.leases_more,
    events: data.events.slice(0, eventsMax),
    names: data.names,
    position: data.position,
    receivedAt: now,
  }
}

/** The view without ended leases whose time has come; the same object when there is none. */
export function dropGone(view: TenantView, now: number): TenantView {
  const leases = view.leases.filter((l) => l.goneAt === undefined || l.goneAt > now)
  return leases.length === view.leases.length ? view : { ...view, leases }
}

function mergeLeases(shown: ShownLease[], changed: Lease[], now: number): ShownLease[] {
  const byId = new Map(shown.map((l) => [l.id, l]))
  for (const lease of changed) {
    if (lease.state === 'active') {
      byId.set(lease.id, lease)
    } else if (byId.has(lease.id)) {
      byId.set(lease.id, { ...lease, goneAt: byId.get(lease.id)?.goneAt ?? now + lingerFor })
    }
  }
  return newestFirst([...byId.values()])
}

function newestFirst(leases: ShownLease[]): ShownLease[] {
  return leases.toSorted((a, b) => b.fence - a.fence)
}

function mergeById<T extends { id: string }>(shown: T[], changed: T[]): T[] {
  if (changed.length === 0) return shown
  const byId = new Map(shown.map((x) => [x.id, x]))
  for (const x of changed) byId.set(x.id, x)
  return [...byId.values()]
}
