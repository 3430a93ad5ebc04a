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
  /** Who holds or held a lease that the page names, by lease. */
  holders: Record<string, string>
  position: string
  /** Time of the last change it holds, by the server's clock. */
  time: string
  /** When this browser learned of it, in milliseconds. */
  receivedAt: number
}

/** A frame of the live stream. */
export type Frame = { kind: 'snapshot'; data: LiveSnapshot } | { kind: 'change'; data: LiveChange }

/** How long an ended lease stays on the page, in milliseconds. */
export const lingerFor = 5000
const eventsMax = 50
/** As many active leases as a snapshot lists. */
export const leasesMax = 200

/** The view after a frame. A change without a view to change is dropped: a snapshot comes first. */
export function applyFrame(view: TenantView | undefined, frame: Frame, now: number): TenantView | undefined {
  if (frame.kind === 'snapshot') return fromSnapshot(frame.data, view, now)
  if (!view) return undefined
  const { data } = frame
  const leases = mergeLeases(view.leases, data.leases, now)
  const oldest = leases.filter((l) => l.state === 'active')[leasesMax]
  const names = { ...view.names, ...data.names }
  // An answer of the server may have been ahead of the stream: what is there already is not new.
  const events = mergeById(view.events, data.events).toSorted(byVersion).slice(0, eventsMax)
  return {
    tenant: data.tenant ?? view.tenant,
    licenses: mergeById(view.licenses, data.licenses),
    leases: oldest ? leases.slice(0, leases.indexOf(oldest)) : leases,
    leasesMore: view.leasesMore || data.leases_more || oldest !== undefined,
    events,
    names,
    holders: holdersOf(view.holders, [...leases, ...data.leases], events, names),
    position: data.position,
    time: data.time,
    receivedAt: now,
  }
}

function fromSnapshot(data: LiveSnapshot, known: TenantView | undefined, now: number): TenantView {
  // When a person was forgotten meanwhile, nothing is remembered that may hold the name.
  const forgot = data.events.some((e) => e.type === 'ai.coditect.person.forgotten.v1' && !known?.events.some((k) => k.id === e.id))
  const before = forgot ? undefined : known
  const lingering = before?.leases.filter((l) => l.goneAt !== undefined && l.goneAt > now) ?? []
  const leases = newestFirst([...data.leases, ...lingering])
  const events = data.events.slice(0, eventsMax)
  return {
    tenant: data.tenant,
    licenses: data.licenses,
    leases,
    leasesMore: data.leases_more,
    events,
    names: data.names,
    holders: holdersOf(before?.holders ?? {}, leases, events, data.names),
    position: data.position,
    time: data.time,
    receivedAt: now,
  }
}

/** Whether leases that are not on the page have to take the place of ended ones. */
export function lacksLeases(view: TenantView): boolean {
  if (!view.leasesMore) return false
  const inUse = view.licenses.reduce((sum, l) => sum + l.in_use, 0)
  return view.leases.filter((l) => l.state === 'active').length < Math.min(leasesMax, inUse)
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

/** A fence orders the leases of one license only. */
function newestFirst(leases: ShownLease[]): ShownLease[] {
  return leases.toSorted((a, b) => Date.parse(b.acquired_at) - Date.parse(a.acquired_at) || b.fence - a.fence)
}

/** Newest first. A version may be larger than a number holds exactly. */
function byVersion(a: Event, b: Event): number {
  return b.version.length - a.version.length || (b.version > a.version ? 1 : -1)
}

function mergeById<T extends { id: string }>(shown: T[], changed: T[]): T[] {
  if (changed.length === 0) return shown
  const byId = new Map(shown.map((x) => [x.id, x]))
  for (const x of changed) byId.set(x.id, x)
  return [...byId.values()]
}

/**
 * Who held the leases that the page names. An event of a lease's end holds only its id, and its acquire may be older
 * than the page goes back.
 */
function holdersOf(before: Record<string, string>, leases: Lease[], events: Event[], names: Record<string, string>): Record<string, string> {
  const holders: Record<string, string> = {}
  for (const event of events) {
    const { lease, user, machine } = event.data as Record<string, string | undefined>
    if (lease === undefined) continue
    const known = before[lease]
    if (user !== undefined && machine !== undefined) holders[lease] = holderText(names[user], names[machine])
    else if (known !== undefined) holders[lease] = known
  }
  for (const lease of leases) holders[lease.id] = holderText(lease.user, lease.machine)
  return holders
}

/** A name, as far as it is still known. */
export function nameText(name: string | undefined): string {
  return name || 'forgotten'
}

/** "ada on ws-1", as far as both are still known. */
export function holderText(user: string | undefined, machine: string | undefined): string {
  return `${nameText(user)} on ${nameText(machine)}`
}

/** The rules of a license that are not the default, in words. */
export function rulesOf(l: License): string[] {
  const day = (at: string) => at.slice(0, 10)
  const rules = [
    l.trial && 'Trial',
    l.seat_per !== 'process' && `One seat per ${l.seat_per}`,
    l.overage === 'unlimited' && 'Overage without limit',
    l.overage === 'percent' && `Overage up to ${l.overage_percent} %`,
    l.max_per_user > 0 && `At most ${l.max_per_user} per user`,
    l.max_per_machine > 0 && `At most ${l.max_per_machine} per machine`,
    ...l.reservations.map((r) => `${r.seats} reserved for ${r.name}`),
    l.borrow_days > 0 && `Offline up to ${l.borrow_days} ${l.borrow_days === 1 ? 'day' : 'days'}${l.borrow_max > 0 ? `, ${l.borrow_max} at once` : ''}${l.borrow_low_water > 0 ? `, ${l.borrow_low_water} stay online` : ''}`,
    l.features.length > 0 && `Features: ${l.features.join(', ')}`,
    l.starts_at && `From ${day(l.starts_at)}`,
    l.expires_at && `Until ${day(l.expires_at)}${l.grace_days > 0 ? `, ${l.grace_days} days grace` : ''}`,
  ]
  return rules.filter((rule) => typeof rule === 'string' && rule !== '') as string[]
}
