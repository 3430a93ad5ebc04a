import type { LeaseState, LicenseStatus } from '../api/types'

interface Badge {
  /** A shape beside the word, so that color is never all there is. */
  sign: string
  word: string
  color: string
}

const leases: Record<LeaseState, Badge> = {
  active: { sign: '●', word: 'Active', color: 'text-ok' },
  released: { sign: '–', word: 'Released', color: 'text-muted' },
  expired: { sign: '○', word: 'Expired', color: 'text-warn' },
  revoked: { sign: '✕', word: 'Revoked', color: 'text-danger' },
  evicted: { sign: '✕', word: 'Evicted', color: 'text-danger' },
  transferred: { sign: '→', word: 'Transferred', color: 'text-muted' },
}

const statuses: Record<LicenseStatus, Badge> = {
  active: { sign: '●', word: 'Active', color: 'text-ok' },
  suspended: { sign: '‖', word: 'Suspended', color: 'text-warn' },
  revoked: { sign: '✕', word: 'Revoked', color: 'text-danger' },
}

export function LeaseBadge({ state }: { state: LeaseState }) {
  return <Shown badge={leases[state]} />
}

/** Of a license, or of a tenant, whose states are the same words. */
export function StatusBadge({ status }: { status: LicenseStatus }) {
  return <Shown badge={statuses[status]} />
}

function Shown({ badge }: { badge: Badge }) {
  return (
    <span className={`inline-flex items-center gap-1.5 font-medium whitespace-nowrap ${badge.color}`}>
      <span aria-hidden="true">{badge.sign}</span>
      {badge.word}
    </span>
  )
}
