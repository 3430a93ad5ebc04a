import { ago, fullTime, until } from '../lib/time'
import { useNow } from '../lib/useNow'
import type { License } from '../api/types'
import type { ShownLease } from '../lib/view'
import { LeaseBadge } from './StateBadge'
import { Cell, Row, Table } from './Table'

/** Who holds a seat right now. */
export function LeaseTable({ leases, licenses }: { leases: ShownLease[]; licenses: License[] }) {
  const now = useNow()
  const products = new Map(licenses.map((l) => [l.id, l.product]))
  return (
    <Table caption="Active leases" titles={['User', 'Machine', 'Process', 'License', 'Since', 'Expires in', 'State']}>
      {leases.map((lease) => {
        const gone = lease.goneAt !== undefined
        return (
          <Row key={lease.id} data-lease={lease.id} gone={gone}>
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
          </Row>
        )
      })}
    </Table>
  )
}
