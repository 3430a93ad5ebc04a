import { screen, waitFor, within } from '@testing-library/react'
import { http, HttpResponse } from 'msw'
import { describe, expect, it } from 'vitest'
import { answersProblem, answersTenant, change, event, lease, license, liveStream, neverAnswers, snapshot, tenant } from '../test/ledger'
import userEvent from '@testing-library/user-event'
import { renderAt } from '../test/render'
import { server } from '../test/server'

const problemOnce = (path: string) => answersProblem(path, 404, 'tenant_not_found', 'No such tenant')

describe('tenant', () => {
  it('shows that it loads', async () => {
    server.use(...['/acme', '/acme/licenses', '/acme/seats', '/acme/timeline'].map(neverAnswers))
    renderAt('/t/acme')
    expect(await screen.findByText('Loading the tenant')).toBeInTheDocument()
  })

  it('says that there is no such tenant', async () => {
    server.use(...['/acme', '/acme/licenses', '/acme/seats', '/acme/timeline'].map(problemOnce))
    renderAt('/t/acme')
    expect(await screen.findByRole('alert')).toHaveTextContent('No such tenant')
  })

  it('says what to do when it is empty', async () => {
    const live = liveStream()
    server.use(...answersTenant(snapshot({ licenses: [], leases: [], events: [] }), live.stream))
    renderAt('/t/acme')
    expect(await screen.findByText(/No licenses yet/)).toBeInTheDocument()
    expect(screen.getByText('Nobody holds a seat right now.')).toBeInTheDocument()
    live.end()
  })

  it('moves by itself', async () => {
    const live = liveStream()
    server.use(...answersTenant(snapshot(), live.stream))
    renderAt('/t/acme')
    expect(await screen.findByRole('heading', { name: 'Acme Corp' })).toBeInTheDocument()
    live.send('snapshot', snapshot())
    expect(await screen.findByText('Live')).toBeInTheDocument()
    expect(screen.getByTestId('in-use')).not.toHaveClass('changed')

    const denied = event('seat.denied', { license: 'lic_1', user: 'user_2', machine: 'machine_1', reason: 'no_seat_available' }, '9')
    live.send('change', change({
      licenses: [{ ...license, in_use: 2 }], leases: [lease('lse_2', { user: 'bob', fence: 8 })], events: [denied], names: { user_2: 'carol' },
    }))
    const table = screen.getByRole('table', { name: 'Active leases' })
    expect(await within(table).findByText('bob')).toBeInTheDocument()
    expect(screen.getByTestId('in-use')).toHaveTextContent('2')
    expect(screen.getByTestId('in-use')).toHaveClass('changed')
    expect(screen.getByText(/carol on ws-1, cad: all seats in use/)).toBeInTheDocument()

    live.send('change', change({ leases: [lease('lse_2', { user: 'bob', fence: 8, state: 'expired' })] }))
    expect(await within(table).findByText('Expired')).toBeInTheDocument()
    live.end()
  })

  it('loses no change that arrives while it asks for the leases again', async () => {
    const live = liveStream()
    let answer: (() => void) | undefined
    server.use(...answersTenant(snapshot(), live.stream))
    renderAt('/t/acme')
    await screen.findByRole('heading', { name: 'Acme Corp' })
    live.send('snapshot', snapshot())
    await screen.findByText('Live')
    const old = { items: [lease('lse_1', { machine: 'ws-asked-again' })], next: '', seats: 5, in_use: 1, position: 'p' }
    server.use(http.get('*/api/v1/tenants/acme/seats', () => new Promise((resolve) => (answer = () => resolve(HttpResponse.json(old))))))
    live.send('change', change({ leases_more: true }))
    await waitFor(() => expect(answer).toBeDefined())
    live.send('change', change({ leases: [lease('lse_2', { user: 'bob', fence: 8 })], licenses: [{ ...license, in_use: 2 }] }))
    const table = screen.getByRole('table', { name: 'Active leases' })
    expect(await within(table).findByText('bob')).toBeInTheDocument()
    answer?.()
    expect(await within(table).findByText('ws-asked-again')).toBeInTheDocument()
    expect(within(table).getByText('bob')).toBeInTheDocument()
    expect(screen.getByTestId('in-use')).toHaveTextContent('2')
    live.end()
  })

  it('names the holder of a seat whose acquire is older than the page goes back', async () => {
    const live = liveStream()
    server.use(...answersTenant(snapshot({ events: [] }), live.stream))
    renderAt('/t/acme')
    expect(await screen.findByText('Nothing has happened yet.')).toBeInTheDocument()
    live.send('snapshot', snapshot({ events: [] }))
    await screen.findByText('Live')
    live.send('change', change({ leases: [lease('lse_1', { state: 'released' })], events: [event('seat.released', { license: 'lic_1', lease: 'lse_1' }, '4')] }))
    expect(await screen.findByText(/ada on ws-1, cad/)).toBeInTheDocument()
    live.end()
  })

  it('stands still while it is paused, and then catches up', async () => {
    const live = liveStream()
    server.use(...answersTenant(snapshot(), live.stream))
    renderAt('/t/acme')
    live.send('snapshot', snapshot())
    await userEvent.click(await screen.findByRole('button', { name: /^Live/ }))
    live.send('change', change({ licenses: [{ ...license, in_use: 4 }], leases: [lease('lse_2', { user: 'bob' })] }))
    expect(await screen.findByText(/changes are held back/)).toBeInTheDocument()
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(screen.queryByText('bob')).not.toBeInTheDocument()
    expect(screen.getByTestId('in-use')).toHaveTextContent('1')
    await userEvent.click(screen.getByRole('button', { name: /^Paused/ }))
    expect(await screen.findByText('bob')).toBeInTheDocument()
    expect(screen.getByTestId('in-use')).toHaveTextContent('4')
    live.end()
  })

  it('comes back by itself after the server failed', async () => {
    server.use(...['/acme', '/acme/licenses', '/acme/seats', '/acme/timeline'].map((path) => answersProblem(path, 503, 'overloaded', 'Too much to do')))
    renderAt('/t/acme')
    expect(await screen.findByRole('alert')).toHaveTextContent('Too much to do')
    server.use(...answersTenant(snapshot(), undefined))
    expect(await screen.findByRole('heading', { name: 'Acme Corp' })).toBeInTheDocument()
    expect(screen.queryByRole('alert')).not.toBeInTheDocument()
  })

  it('follows a new stream for another reason', async () => {
    const streams = [liveStream(), liveStream()]
    const reasons: (string | null)[] = []
    server.use(
      http.get('*/api/v1/tenants/acme/live', ({ request }) => {
        reasons.push(request.headers.get('Ledger-Reason'))
        return new HttpResponse(streams[reasons.length - 1]?.stream, { headers: { 'Content-Type': 'text/event-stream' } })
      }),
      ...answersTenant(snapshot(), undefined),
    )
    renderAt('/t/acme')
    await waitFor(() => expect(reasons).toEqual(['dashboard']))
    const reason = screen.getByLabelText('Why you look')
    await userEvent.clear(reason)
    await userEvent.type(reason, 'renewal')
    await userEvent.click(screen.getByRole('button', { name: 'Look for this reason', hidden: true }))
    await waitFor(() => expect(reasons).toEqual(['dashboard', 'renewal']))
    for (const stream of streams) stream.end()
  })

  it('tells when it is suspended', async () => {
    const live = liveStream()
    server.use(...answersTenant(snapshot({ tenant: { ...tenant, status: 'suspended' }, licenses: [{ ...license, status: 'revoked' }] }), live.stream))
    renderAt('/t/acme')
    expect(await screen.findByText('This tenant is suspended.')).toBeInTheDocument()
    expect(screen.getByText(/Revoked for good/)).toBeInTheDocument()
    live.end()
  })

  it('tells where a license goes, or went', async () => {
    const live = liveStream()
    const transfer = { id: 'trf_1', to: 'globex', license: 'lic_9', at: '2026-01-02T03:04:06.000Z', leases: 0 }
    server.use(...answersTenant(snapshot({
      licenses: [
        { ...license, transfer: { ...transfer, state: 'draining' } },
        { ...license, id: 'lic_2', product: 'cam', status: 'revoked', transfer: { ...transfer, state: 'completed' } },
      ],
    }), live.stream))
    renderAt('/t/acme')
    expect(await screen.findByText(/^Goes to globex: no new seats/)).toBeInTheDocument()
    expect(screen.getByText('Was transferred to globex.')).toBeInTheDocument()
    expect(screen.queryByText(/Revoked for good/)).not.toBeInTheDocument()
    live.end()
  })

  it('tells that it is stale while there is no stream, and keeps what it knows', async () => {
    server.use(...answersTenant(snapshot(), undefined))
    renderAt('/t/acme')
    expect(await screen.findByText('Reconnecting')).toBeInTheDocument()
    await waitFor(() => expect(screen.getByText(/not updated for/)).toBeInTheDocument())
    expect(screen.getByRole('table', { name: 'Active leases' })).toBeInTheDocument()
  })

  it('narrows the leases to one license by the address', async () => {
    const live = liveStream()
    server.use(...answersTenant(snapshot({ leases: [lease('lse_1'), lease('lse_2', { license: 'lic_2', user: 'bob' })] }), live.stream))
    renderAt('/t/acme?license=lic_2')
    expect(await screen.findByText('bob')).toBeInTheDocument()
    expect(screen.queryByText('ada')).not.toBeInTheDocument()
    live.end()
  })
})
