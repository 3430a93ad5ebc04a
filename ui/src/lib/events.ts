import type { Event, License } from '../api/types'
import { holderText, nameText } from './view'

/** What an event says, in words, and what it is about. */
export interface EventWords {
  verb: string
  about: string
  tone: 'ok' | 'warn' | 'danger' | 'plain'
  /** A shape beside the words, so that color is never all there is. */
  sign: string
}

const reasons: Record<string, string> = {
  no_seat_available: 'all seats in use',
  tenant_suspended: 'tenant suspended',
  license_suspended: 'license suspended',
  license_revoked: 'license revoked',
  license_not_started: 'license not valid yet',
  license_expired: 'license expired',
  feature_not_entitled: 'feature not included',
  user_limit_reached: 'user has the most leases allowed',
  machine_limit_reached: 'machine has the most leases allowed',
  license_transferring: 'license about to be transferred',
  license_transferred: 'license transferred',
  borrow_not_allowed: 'seats cannot be borrowed',
  borrow_too_long: 'asked to borrow for too long',
  borrow_limit_reached: 'as many seats as may are borrowed',
}

/** Why a holder left the queue without a seat; a refusal has a reason of its own. */
const departures: Record<string, string> = {
  left: ': hung up',
  absent: ': did not ask again',
  revived: ': has its old lease again',
}

/**
 * Describes an event. Names come from the directory and licenses from the page; what is not known any more is shown as
 * the id that the event holds.
 */
export function describe(event: Event, names: Record<string, string>, licenses: License[], holders: Record<string, string>): EventWords {
  const data = event.data as Record<string, unknown>
  const text = (key: string) => String(data[key] ?? '')
  const product = licenses.find((l) => l.id === text('license'))?.product ?? text('license')
  const holder = () => holderText(names[text('user')], names[text('machine')])
  const held = () => holders[text('lease')] ?? text('lease')
  const person = () => nameText(names[text('user')])
  const several = () => (data.leases as string[]).map((id) => holders[id] ?? id).join(', ')
  const day = (key: string) => `${text(key).slice(0, 16).replace('T', ' ')} UTC`
  const because = text('reason') ? `: ${text('reason')}` : ''
  switch (event.type) {
    case 'ai.coditect.tenant.created.v1':
      return { verb: 'Tenant created', about: text('name'), tone: 'plain', sign: '+' }
    case 'ai.coditect.tenant.renamed.v1':
      return { verb: 'Tenant renamed', about: `${text('was')} → ${text('name')}`, tone: 'plain', sign: '✎' }
    case 'ai.coditect.tenant.suspended.v1':
      return { verb: 'Tenant suspended', about: text('reason'), tone: 'danger', sign: '‖' }
    case 'ai.coditect.tenant.reinstated.v1':
      return { verb: 'Tenant reinstated', about: text('reason'), tone: 'ok', sign: '●' }
    case 'ai.coditect.license.issued.v1':
      return { verb: 'License issued', about: `${text('product')}, ${text('seats')} seats`, tone: 'plain', sign: '+' }
    case 'ai.coditect.license.resized.v1':
      return { verb: 'License resized', about: `${product}, ${text('was')} → ${text('seats')} seats`, tone: 'plain', sign: '↕' }
    case 'ai.coditect.license.policy_changed.v1':
      return { verb: 'Policy changed', about: `${product}: ${changedRules(data).join(', ')}`, tone: 'plain', sign: '✎' }
    case 'ai.coditect.license.renewed.v1':
      return { verb: 'License renewed', about: `${product}, ${data.expires_at ? `until ${text('expires_at').slice(0, 10)}` : 'no end'}`, tone: 'ok', sign: '↻' }
    case 'ai.coditect.license.trial_converted.v1':
      return { verb: 'Trial converted', about: product, tone: 'ok', sign: '●' }
    case 'ai.coditect.license.key_rotated.v1':
      return { verb: 'Key rotated', about: `${product}, old key valid until ${day('old_until')}`, tone: 'plain', sign: '↻' }
    case 'ai.coditect.license.suspended.v1':
      return { verb: 'License suspended', about: product + because, tone: 'danger', sign: '‖' }
    case 'ai.coditect.license.reinstated.v1':
      return { verb: 'License reinstated', about: product + because, tone: 'ok', sign: '●' }
    case 'ai.coditect.license.revoked.v1':
      return data.transferred_to
        ? { verb: 'License transferred', about: `${product}, to ${text('transferred_to')}`, tone: 'plain', sign: '→' }
        : { verb: 'License revoked', about: product + because, tone: 'danger', sign: '✕' }
    case 'ai.coditect.license.transfer_started.v1':
      return { verb: 'Transfer started', about: `${product}, to ${text('to')}${because}`, tone: 'warn', sign: '→' }
    case 'ai.coditect.license.transfer_cancelled.v1':
      return { verb: 'Transfer cancelled', about: product + because, tone: 'plain', sign: '→' }
    case 'ai.coditect.license.transfer_completed.v1':
      return { verb: 'Transfer completed', about: product, tone: 'plain', sign: '→' }
    case 'ai.coditect.seat.acquired.v1':
      return data.borrowed
        ? { verb: 'Seat borrowed', about: `${holder()}, ${product}, until ${day('expires_at')}`, tone: 'ok', sign: '●' }
        : { verb: 'Seat acquired', about: `${holder()}, ${product}`, tone: 'ok', sign: '●' }
    case 'ai.coditect.seat.borrowed.v1':
      return { verb: 'Seat borrowed', about: `${held()}, ${product}, until ${day('expires_at')}`, tone: 'ok', sign: '●' }
    case 'ai.coditect.seat.revived.v1':
      return { verb: 'Seat revived', about: `${several()}, ${product}`, tone: 'ok', sign: '↻' }
    case 'ai.coditect.seat.evicted.v1':
      return { verb: 'Seat evicted', about: `${several()}, ${product}${data.cause === 'license_shrunk' ? ': fewer seats' : because}`, tone: 'danger', sign: '✕' }
    case 'ai.coditect.seat.released.v1':
      return { verb: 'Seat released', about: `${held()}, ${product}`, tone: 'plain', sign: '–' }
    case 'ai.coditect.seat.expired.v1':
      return { verb: 'Seat expired', about: `${held()}, ${product}`, tone: 'warn', sign: '○' }
    case 'ai.coditect.seat.denied.v1':
      return { verb: 'Seat denied', about: `${holder()}, ${product}: ${reasons[text('reason')] ?? text('reason')}${typeof data.count === 'number' && data.count > 1 ? `, ${data.count} times` : ''}`, tone: 'danger', sign: '▲' }
    case 'ai.coditect.member.invited.v1':
      return { verb: 'Member invited', about: `${person()}, ${text('role')}`, tone: 'plain', sign: '+' }
    case 'ai.coditect.member.role_changed.v1':
      return { verb: 'Role changed', about: `${person()}, ${text('was')} → ${text('role')}`, tone: 'plain', sign: '✎' }
    case 'ai.coditect.member.removed.v1':
      return { verb: 'Member removed', about: person() + because, tone: 'warn', sign: '–' }
    case 'ai.coditect.key.created.v1':
      return { verb: 'Key created', about: `${text('name')}, ${text('role')}`, tone: 'plain', sign: '+' }
    case 'ai.coditect.key.rotated.v1':
      return { verb: 'Key rotated', about: `${text('old_key')}, valid until ${day('old_until')}`, tone: 'plain', sign: '↻' }
    case 'ai.coditect.key.revoked.v1':
      return { verb: 'Key revoked', about: text('key') + because, tone: 'warn', sign: '✕' }
    case 'ai.coditect.staff.read.v1':
      return { verb: 'Read by staff', about: text('permission') + because, tone: 'plain', sign: '◉' }
    case 'ai.coditect.person.forgotten.v1':
      return { verb: 'Forgotten', about: `a ${text('kind')}, known as ${text('pseudonym')}${because}`, tone: 'plain', sign: '⌫' }
    case 'ai.coditect.seat.queued.v1':
      return { verb: 'Waits for a seat', about: `${holder()}, ${product}, number ${text('position')}`, tone: 'plain', sign: '…' }
    case 'ai.coditect.seat.dequeued.v1':
      return { verb: 'Left the queue', about: `${holder()}, ${product}${departures[text('cause')] ?? `: ${reasons[text('reason')] ?? text('reason')}`}`, tone: 'warn', sign: '…' }
    default:
      return { verb: event.type, about: event.subject ?? '', tone: 'plain', sign: '·' }
  }
}

/** The rules that differ between the two policies of a change, by name. */
function changedRules(data: Record<string, unknown>): string[] {
  const now = data.policy as Record<string, unknown>
  const was = data.was as Record<string, unknown>
  const names = [...new Set([...Object.keys(was), ...Object.keys(now)])].sort()
  return names.filter((name) => JSON.stringify(now[name]) !== JSON.stringify(was[name])).map((name) => name.replaceAll('_', ' '))
}
