import { delay, http, HttpResponse } from 'msw'
import type { Event, Lease, License, LicenseQueue, LiveChange, LiveSnapshot, Tenant, Waiter } from '../api/types'

export const tenant: Tenant = { id: 'acme', name: 'Acme Corp', status: 'active', created_at: '2026-01-02T03:04:05.000Z' }

export const license: License = {
  id: 'lic_1', tenant: 'acme', product: 'cad', seats: 5, in_use: 1, status: 'active', lease_seconds: 300, heartbeat_seconds: 100, seat_per: 'process',
  overage: 'none', revive_seconds: 0, max_per_user: 0, max_per_machine: 0, reservations: [], borrow_days: 0, borrow_max: 0, borrow_low_water: 0, features: [], grace_days: 0, on_shrink: 'drain', trial: false,
  issued_at: '2026-01-02T03:04:06.000Z',
}

export function lease(id: string, over: Partial<Lease> = {}): Lease {
  const at = Date.now()
  return {
    id, fence: 3, license: 'lic_1', user: 'ada', machine: 'ws-1', state: 'active',
    acquired_at: new Date(at).toISOString(), expires_at: new Date(at + 300_000).toISOString(), ...over,
  }
}

export function event(type: string, data: Record<string, unknown>, version = '3'): Event {
  return {
    specversion: '1.0', id: `id-${version}`, source: '/ledgers/1', type: `ai.coditect.${type}.v1`, time: new Date().toISOString(),
    tenant: 'acme', version, actor: 'key:abc', data,
  }
}

export const acquired = event('seat.acquired', { license: 'lic_1', lease: 'lse_1', user: 'user_1', machine: 'machine_1' })
export const names = { user_1: 'ada', machine_1: 'ws-1' }

export function snapshot(over: Partial<LiveSnapshot> = {}): LiveSnapshot {
  return {
    tenant, licenses: [license], leases: [lease('lse_1')], leases_more: false, events: [acquired], names, forgotten: [], position: 'position-1',
    time: new Date().toISOString(), ...over,
  }
}

export function change(over: Partial<LiveChange> = {}): LiveChange {
  return { licenses: [], leases: [], leases_more: false, events: [], names: {}, forgotten: [], position: 'position-2', time: new Date().toISOString(), ...over }
}

export function waiter(position: number, user: string, over: Partial<Waiter> = {}): Waiter {
  return { position, user, machine: `ws-${user}`, priority: 0, since: new Date(Date.now() - 2 * 3_600_000).toISOString(), ...over }
}

export function queue(...items: Waiter[]): LicenseQueue {
  return { items, waiting: items.length, seats: 5, in_use: 5, position: 'p', age_seconds: 0 }
}

const base = '*/api/v1/tenants'

export function answersQueue(found: LicenseQueue, of = 'lic_1') {
  return http.get(`${base}/acme/licenses/${of}/queue`, () => HttpResponse.json(found))
}

export function answersTenants(...items: object[]) {
  return http.get(base, () => HttpResponse.json({ items, next: '', position: 'p' }))
}

export function answersProblem(path: string, status: number, code: string, title: string) {
  return http.get(base + path, () =>
    HttpResponse.json({ type: 'about:blank', title, status, code, detail: `Detail of ${code}.`, request_id: 'request-7' }, { status, headers: { 'Content-Type': 'application/problem+json' } }),
  )
}

export function neverAnswers(path: string) {
  return http.get(base + path, () => delay('infinite'))
}

/** All that the page of a tenant asks for. `frames` is the live stream, which then stays open. */
export function answersTenant(view: LiveSnapshot, frames: ReadableStream<Uint8Array> | undefined) {
  return [
    http.get(`${base}/acme`, () => HttpResponse.json({ tenant: view.tenant })),
    http.get(`${base}/acme/licenses`, () => HttpResponse.json({ items: view.licenses, next: '', position: 'p' })),
    answersQueue(queue(), ':license'),
    http.get(`${base}/acme/seats`, () => HttpResponse.json({ items: view.leases, next: '', seats: 5, in_use: 1, position: 'p' })),
    http.get(`${base}/acme/timeline`, () => HttpResponse.json({ items: view.events.map((stored) => ({ event: stored })), next: '', names: view.names, forgotten: view.forgotten, position: 'p', age_seconds: 0 })),
    http.get(`${base}/acme/live`, () =>
      frames ? new HttpResponse(frames, { headers: { 'Content-Type': 'text/event-stream' } }) : new HttpResponse(null, { status: 503 }),
    ),
  ]
}

/** A live stream under the test's control. */
export function liveStream() {
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined
  const stream = new ReadableStream<Uint8Array>({ start: (c) => void (controller = c) })
  const send = (name: string, data: object) => controller?.enqueue(new TextEncoder().encode(`event: ${name}\nid: 1\ndata: ${JSON.stringify(data)}\n\n`))
  return { stream, send, end: () => controller?.close() }
}
