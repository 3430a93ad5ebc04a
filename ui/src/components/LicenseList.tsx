import { Link } from '@tanstack/react-router'
import type { License, LicenseStatus, TransferState } from '../api/types'
import { duration } from '../lib/time'
import { rulesOf } from '../lib/view'
import { SeatBar } from './SeatBar'
import { StatusBadge } from './StateBadge'

const banners: Record<LicenseStatus, string | undefined> = {
  active: undefined,
  suspended: 'No new seats and no renewals until it is reinstated; running leases run out.',
  revoked: 'Revoked for good; all its leases ended.',
}

/** Of a license that goes to another tenant, in place of what its status says. */
const transfers: Record<TransferState, (to: string) => string> = {
  draining: (to) => `Goes to ${to}: no new seats, and it leaves when nobody has one any more.`,
  gone: (to) => `Is on its way to ${to}.`,
  completed: (to) => `Was transferred to ${to}.`,
}

function Banner({ license: { status, transfer } }: { license: License }) {
  const text = transfer ? transfers[transfer.state](transfer.to) : banners[status]
  return text && <p className="banner mt-3">{text}</p>
}

/** The licenses of a tenant. The one that the page is narrowed to is marked. */
export function LicenseList({ licenses, selected }: { licenses: License[]; selected: string | undefined }) {
  const sorted = licenses.toSorted((a, b) => a.product.localeCompare(b.product) || a.issued_at.localeCompare(b.issued_at))
  return (
    <ul className="grid grid-cols-[repeat(auto-fill,minmax(min(100%,18rem),1fr))] gap-4">
      {sorted.map((license) => (
        <li key={license.id} className={`panel p-4 ${license.id === selected ? 'border-accent' : ''}`}>
          <div className="flex items-baseline justify-between gap-2">
            <h3 className="text-base/6 font-semibold">
              <Link
                from="/t/$tenant" to="." search={({ q }) => ({ ...(q ? { q } : {}), ...(license.id === selected ? {} : { license: license.id }) })}
                className="inline-flex min-h-6 items-center text-link underline-offset-4 hover:underline" aria-current={license.id === selected ? 'true' : undefined}
              >
                {license.product}
              </Link>
            </h3>
            <StatusBadge status={license.status} />
          </div>
          <div className="mt-2">
            <SeatBar inUse={license.in_use} seats={license.seats} />
          </div>
          <p className="mt-2 text-xs/4 text-muted">
            Lease {duration(license.lease_seconds)}, heartbeat every {duration(license.heartbeat_seconds)}
          </p>
          {rulesOf(license).length > 0 && <p className="mt-1 text-xs/4 text-muted">{rulesOf(license).join(' · ')}</p>}
          <Banner license={license} />
        </li>
      ))}
    </ul>
  )
}
