import { http, HttpResponse } from 'msw'
import { screen, waitFor } from '@testing-library/react'
import userEvent from '@testing-library/user-event'
import { describe, expect, it } from 'vitest'
import { answersProblem, answersTenants, neverAnswers } from '../test/ledger'
import { renderAt } from '../test/render'
import { server } from '../test/server'

const acme = { id: 'acme', name: 'Acme Corp', status: 'active', created_at: '2026-01-01T00:00:00Z', licenses: 2, seats: 7, in_use: 7 }

describe('tenants', () => {
  it('asks for the key first', async () => {
    renderAt('/', { signedIn: false })
    await userEvent.type(await screen.findByLabelText('Operator key'), 'op_short')
    await userEvent.click(screen.getByRole('button', { name: 'Sign in' }))
    expect(screen.getByRole('alert')).toHaveTextContent('begins with op_')
  })

  it('asks why, and tells the server; for another reason it asks anew', async () => {
    const reasons: (string | null)[] = []
    server.use(http.get('*/api/v1/tenants', ({ request }) => {
      reasons.push(request.headers.get('Ledger-Reason'))
      return HttpResponse.json({ items: [acme], next: '', position: 'p' })
    }))
    renderAt('/', { signedIn: false })
    await userEvent.type(await screen.findByLabelText('Operator key'), `op_${'k'.repeat(43)}`)
    await userEvent.clear(screen.getByLabelText('Why you look'))
    await userEvent.click(screen.getByRole('button', { name: 'Sign in' }))
    expect(screen.getByLabelText('Why you look')).toBeInvalid()
    await userEvent.type(screen.getByLabelText('Why you look'), 'ticket 4711')
    await userEvent.click(screen.getByRole('button', { name: 'Sign in' }))
    await screen.findByRole('link', { name: 'Acme Corp' })
    expect(new Set(reasons)).toEqual(new Set(['ticket 4711']))

    const reason = screen.getByLabelText('Why you look')
    expect(reason).toHaveValue('ticket 4711')
    await userEvent.clear(reason)
    await userEvent.type(reason, 'renewal')
    await userEvent.click(screen.getByRole('button', { name: 'Look for this reason', hidden: true }))
    await waitFor(() => expect(reasons.at(-1)).toBe('renewal'))
    expect(await screen.findByRole('link', { name: 'Acme Corp' })).toBeInTheDocument()
  })

  it('shows that it loads', async () => {
    server.use(neverAnswers(''))
    renderAt('/')
    expect(await screen.findByText('Loading tenants')).toBeInTheDocument()
  })

  it('says what to do when there are none', async () => {
    server.use(answersTenants())
    renderAt('/')
    expect(await screen.findByRole('heading', { name: 'No tenants yet' })).toBeInTheDocument()
    expect(screen.getByText(/curl -sS .*\/api\/v1\/tenants/)).toBeInTheDocument()
  })

  it('lists them with their seats in words', async () => {
    server.use(answersTenants(acme))
    renderAt('/')
    expect(await screen.findByRole('link', { name: 'Acme Corp' })).toHaveAttribute('href', '/t/acme')
    expect(screen.getByText(/of 7 seats in use, full/)).toBeInTheDocument()
  })

  it('shows a problem with its request, and tries again', async () => {
    server.use(answersProblem('', 503, 'projection_behind', 'Not that far yet'))
    renderAt('/')
    expect(await screen.findByRole('alert')).toHaveTextContent('Not that far yet')
    expect(screen.getByText('request-7')).toBeInTheDocument()
    server.use(answersTenants(acme))
    await userEvent.click(screen.getByRole('button', { name: 'Retry' }))
    expect(await screen.findByRole('link', { name: 'Acme Corp' })).toBeInTheDocument()
  })

  it('asks for the key again when the server refuses it', async () => {
    server.use(answersProblem('', 401, 'unauthorized', 'A valid key is required'))
    renderAt('/')
    expect(await screen.findByRole('alert')).toHaveTextContent('does not know this key')
  })

  it('keeps what it knows while the server fails, and says how old it is', async () => {
    server.use(answersTenants(acme))
    const { client } = renderAt('/')
    await screen.findByRole('link', { name: 'Acme Corp' })
    server.use(answersProblem('', 503, 'overloaded', 'Too much to do'))
    await client.refetchQueries()
    expect(await screen.findByRole('alert')).toHaveTextContent('Too much to do')
    expect(screen.getByText(/not updated for/)).toBeInTheDocument()
    expect(screen.getByRole('link', { name: 'Acme Corp' })).toBeInTheDocument()
  })

  it('says that there are more than it lists', async () => {
    server.use(http.get('*/api/v1/tenants', () => HttpResponse.json({ items: [acme], next: 'cursor', position: 'p' })))
    renderAt('/')
    expect(await screen.findByText(/There are more/)).toBeInTheDocument()
  })
})
