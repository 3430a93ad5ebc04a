import { ago, fullTime, until } from '../lib/time'
import { useNow } from '../lib/useNow'
import type { License } from '../api/types'
import type { ShownLease } from '../lib/view'
import { LeaseBadge } from './StateBadge'

/** Who holds a seat right now. */
export function LeaseTable({ leases, licenses }: { leases: ShownLease[]; licenses: License[] }) {
  const now = useNow()
  const products = new Map(licenses.map((l) => [l.id, l.product]))
  return (
    // Below the width of a table each row becomes a block, its cells named: nothing scrolls sideways.
    <table className="w-full border-collapse text-left max-md:block">
      <caption className="sr-only">Active leases</caption>
      <thead className="border-b border-line text-xs/4 text-muted max-md:sr-only">
        <tr>
          {['User', 'Machine', 'Process', 'License', 'Since', 'Expires in', 'State'].map((title) => (
            <th key={title} scope="col" className="px-3 py-2 font-medium whitespace-nowrap">
              {title}
            </th>
          ))}
        </tr>
      </thead>
      <tbody className="max-md:block">
        {leases.map((lease) => {
          const gone = lease.goneAt !== undefined
          return (
            <tr key={lease.id} data-lease={lease.id} className={`border-b border-line last:border-0 max-md:grid hover:bg-surface-2 max-md:grid-cols-2 max-md:gap-x-3 max-md:px-3 max-md:py-2 ${gone ? 'text-muted line-through' : ''}`}>
              <Cell name="User">{lease.user ? <span className="font-medium">{lease.user}</span> : <em>forgotten</em>}</Cell>
              <Cell name="Machine">{lease.machine || <em>forgotten</em>}</Cell>
              <Cell name="Process">{lease.forgotten?.includes('process') ? <em>forgotten</em> : (lease.process ?? '–')}</Cell>
              <Cell name="License">{products.get(lease.license) ?? lease.license}</Cell>
              <Cell name="Since">
                <time dateTime={lease.acquired_at} title={fullTime(lease.acquired_at)}>
                  {ago(lease.acquired_at, now)}
                </time>
              </Cell>
              <Cell name="Expires in">
                <time dateTime={lease.expires_at} title={fullTime(lease.expires_at)} className="tabular-nums" data-testid="expires">
                  {gone ? '–' : until(lease.expires_at, now)}
                </time>
              </Cell>
              <Cell name="State">
                <LeaseBadge state={lease.state} />
                {lease.borrowed && <span className="ml-2 text-xs/4 text-muted">offline</span>}
                {lease.overage && <span className="ml-2 text-xs/4 text-muted">overage</span>}
              </Cell>
            </tr>
          )
        })}
      </tbody>
    </table>
  )
}

function Cell({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <td className="px-3 py-2 max-md:px-0 max-md:py-0.5">
      <span className="mr-1 text-xs/4 text-muted md:hidden">{name}</span>
      {children}
    </td>
  )
}
