import type { Event, License } from '../api/types'

/** What an event says, in words, and what it is about. */
export interface EventWords {
  verb: string
  about: string
  tone: 'ok' | 'warn' | 'danger' | 'plain'
}

const reasons: Record<string, string> = {
  no_seat_available: 'all seats in use',
  tenant_suspended: 'tenant suspended',
  license_suspended: 'license suspended',
  license_revoked: 'license revoked',
}

/**
 * Describes an event. Names come from the directory and licenses from the page; what is not known any more is shown as
 * the id that the event holds.
 */
export function describe(event: Event, names: Record<string, string>, licenses: License[], holders: Map<string, string>): EventWords {
  const data = event.data as Record<string, unknown>
  const text = (key: string) => String(data[key] ?? '')
  const name = (key: string) => names[text(key)] ?? (text(key) === '' ? '' : 'forgotten')
  const product = licenses.find((l) => l.id === text('license'))?.product ?? text('license')
  const holder = () => `${name('user')} on ${name('machine')}`
  const held = () => holders.get(text('lease')) ?? text('lease')
  const because = text('reason') ? `: ${text('reason')}` : ''
  switch (event.type) {
    case 'ai.coditect.tenant.created.v1':
      return { verb: 'Tenant created', about: text('name'), tone: 'plain' }
    case 'ai.coditect.tenant.renamed.v1':
      return { verb: 'Tenant renamed', about: `${text('was')} → ${text('name')}`, tone: 'plain' }
    case 'ai.coditect.tenant.suspended.v1':
      return { verb: 'Tenant suspended', about: text('reason'), tone: 'danger' }
    case 'ai.coditect.tenant.reinstated.v1':
      return { verb: 'Tenant reinstated', about: text('reason'), tone: 'ok' }
    case 'ai.coditect.license.issued.v1':
      return { verb: 'License issued', about: `${text('product')}, ${text('seats')} seats`, tone: 'plain' }
    case 'ai.coditect.license.resized.v1':
      return { verb: 'License resized', about: `${product}, ${text('was')} → ${text('seats')} seats`, tone: 'plain' }
    case 'ai.coditect.license.suspended.v1':
      return { verb: 'License suspended', about: product + because, tone: 'danger' }
    case 'ai.coditect.license.reinstated.v1':
      return { verb: 'License reinstated', about: product + because, tone: 'ok' }
    case 'ai.coditect.license.revoked.v1':
      return { verb: 'License revoked', about: product + because, tone: 'danger' }
    case 'ai.coditect.seat.acquired.v1':
      return { verb: 'Seat acquired', about: `${holder()}, ${product}`, tone: 'ok' }
    case 'ai.coditect.seat.released.v1':
      return { verb: 'Seat released', about: `${held()}, ${product}`, tone: 'plain' }
    case 'ai.coditect.seat.expired.v1':
      return { verb: 'Seat expired', about: `${held()}, ${product}`, tone: 'warn' }
    case 'ai.coditect.seat.denied.v1':
      return { verb: 'Seat denied', about: `${holder()}, ${product}: ${reasons[text('reason')] ?? text('reason')}`, tone: 'danger' }
    default:
      return { verb: event.type, about: event.subject ?? '', tone: 'plain' }
  }
}

/** Who held which lease, as far as these events tell. */
export function holdersOf(events: Event[], names: Record<string, string>): Map<string, string> {
  const holders = new Map<string, string>()
  for (const event of events) {
    if (event.type !== 'ai.coditect.seat.acquired.v1') continue
    const data = event.data as Record<string, string>
    holders.set(data['lease'] ?? '', `${names[data['user'] ?? ''] ?? 'forgotten'} on ${names[data['machine'] ?? ''] ?? 'forgotten'}`)
  }
  return holders
}
