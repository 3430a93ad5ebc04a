import { screen, waitFor, within } from '@testing-library/react'
import userEvent from '@testing-library/user-event'
import { afterEach, describe, expect, it } from 'vitest'
import type { LicenseQueue, LiveSnapshot } from '../api/types'
import { answersProblem, answersQueue, answersTenant, change, license, liveStream, neverAnswers, queue, snapshot, waiter } from '../test/ledger'
import { renderAt } from '../test/render'
import { server } from '../test/server'

const path = '/acme/licenses/lic_1/queue'
const section = () => screen.findByRole('region', { name: /^Waiting for a seat/ })
const rows = (table: HTMLElement) => within(table).getAllByRole('row').slice(1).map((row) => within(row).getAllByRole('cell').map((cell) => cell.lastChild?.textContent))

let live: ReturnType<typeof liveStream>
afterEach(() => live.end())

/** The page of a tenant with a live stream; show opens it, with what is answered differently. */
function opened(at = '/t/acme', view: LiveSnapshot = snapshot()) {
  live = liveStream()
  server.use(...answersTenant(view, live.stream))
  const show = (...handlers: Parameters<typeof server.use>) => {
    server.use(...handlers)
    renderAt(at)
  }
  return { show }
}

describe('the queue of a license', () => {
  it('shows that it loads', async () => {
    const { show } = opened()
    show(neverAnswers(path))
    expect(await within(await section()).findByText('Loading the queue')).toBeInTheDocument()
  })

  it('says that nobody waits', async () => {
    const { show } = opened()
    show()
    expect(await within(await section()).findByText('Nobody waits; 5 of 5 seats are in use.')).toBeInTheDocument()
  })

  it('says what went wrong, and tries again when asked', async () => {
    const { show } = opened()
    show(answersProblem(path, 403, 'forbidden', 'Not allowed'))
    expect(await within(await section()).findByRole('alert')).toHaveTextContent('Not allowed')
    server.use(answersQueue(queue(waiter(1, 'carol'))))
    await userEvent.click(screen.getByRole('button', { name: 'Retry' }))
    expect(await screen.findByRole('table', { name: 'Queue of cad' })).toHaveTextContent('carol')
    expect(screen.queryByRole('alert')).not.toBeInTheDocument()
  })

  it('shows who waits, in turn, and when each gets a seat', async () => {
    const { show } = opened()
    show(answersQueue(queue(waiter(1, 'carol', { estimate_seconds: 40 }), waiter(2, '', { machine: '', process: 'p-7', estimate_seconds: 140 }))))
    const table = await screen.findByRole('table', { name: 'Queue of cad' })
    expect(within(table).getAllByRole('columnheader').map((th) => th.textContent)).toEqual(['Place', 'User', 'Machine', 'Process', 'Since', 'Seat in'])
    expect(rows(table)).toEqual([
      ['1', 'carol', 'ws-carol', '–', '2 hours ago', 'less than a minute'],
      ['2', 'forgotten', 'forgotten', 'p-7', '2 hours ago', 'about 2 min'],
    ])
  })

  it('shows the priority of each, and the reservation that gives it', async () => {
    const reserved = { ...license, reservations: [{ name: 'render team', users: ['ann'], seats: 1, priority: 2 }, { name: 'night shift', users: ['bob'], seats: 1, priority: 0 }] }
    const { show } = opened('/t/acme', snapshot({ licenses: [reserved] }))
    show(answersQueue(queue(waiter(1, 'ann', { priority: 2 }), waiter(2, 'eve', { priority: 1 }), waiter(3, 'carol'))))
    const table = await screen.findByRole('table', { name: 'Queue of cad' })
    expect(rows(table).map((cells) => cells[4])).toEqual(['2, render team', '1', '0'])
    expect(rows(table)[0]?.at(-1)).toBe('unknown')
  })

  it('draws the beginning of a long queue, and says how much is left out', async () => {
    const { show } = opened()
    show(answersQueue(queue(...Array.from({ length: 52 }, (_, i) => waiter(i + 1, `user${i + 1}`)))))
    const table = await screen.findByRole('table', { name: 'Queue of cad' })
    expect(table.querySelectorAll('tbody tr')).toHaveLength(50)
    expect(screen.getByText(/^2 more wait behind these/)).toBeInTheDocument()
  })

  it('moves by itself when the license comes anew, though it looks the same', async () => {
    const { show } = opened()
    show(answersQueue(queue(waiter(1, 'carol'))))
    live.send('snapshot', snapshot())
    expect(await screen.findByRole('table', { name: 'Queue of cad' })).toHaveTextContent('carol')
    await screen.findByText('Live')
    server.use(answersQueue(queue(waiter(1, 'dan'))))
    live.send('change', change({ licenses: [{ ...license }] }))
    await waitFor(() => expect(screen.getByRole('table', { name: 'Queue of cad' })).toHaveTextContent('dan'))
  })

  it('stands still while the page is paused', async () => {
    const { show } = opened()
    show(answersQueue(queue(waiter(1, 'carol'))))
    live.send('snapshot', snapshot())
    await screen.findByRole('table', { name: 'Queue of cad' })
    await userEvent.click(await screen.findByRole('button', { name: /^Live/ }))
    server.use(answersQueue(queue(waiter(1, 'dan'))))
    live.send('change', change({ licenses: [{ ...license, in_use: 4 }] }))
    expect(await screen.findByText(/changes are held back/)).toBeInTheDocument()
    expect(screen.getByRole('table', { name: 'Queue of cad' })).toHaveTextContent('carol')
    await userEvent.click(screen.getByRole('button', { name: /^Paused/ }))
    await waitFor(() => expect(screen.getByRole('table', { name: 'Queue of cad' })).toHaveTextContent('dan'))
  })

  it('keeps what it knows when it cannot be asked for again, and says how old that is', async () => {
    const { show } = opened()
    show(answersQueue(queue(waiter(1, 'carol'))))
    live.send('snapshot', snapshot())
    expect(await screen.findByRole('table', { name: 'Queue of cad' })).toHaveTextContent('carol')
    await screen.findByText('Live')
    server.use(answersProblem(path, 503, 'overloaded', 'Too much to do'))
    live.send('change', change({ licenses: [license] }))
    expect(await within(await section()).findByRole('alert')).toHaveTextContent(/^Not updated since .*Too much to do/)
    expect(screen.getByRole('table', { name: 'Queue of cad' })).toHaveTextContent('carol')
    const found: LicenseQueue = queue(waiter(1, 'dan'))
    server.use(answersQueue(found))
    await userEvent.click(within(await section()).getByRole('button', { name: 'Retry' }))
    await waitFor(() => expect(screen.getByRole('table', { name: 'Queue of cad' })).toHaveTextContent('dan'))
    expect(within(await section()).queryByRole('alert')).not.toBeInTheDocument()
  })

  it('asks to choose a license when there are several', async () => {
    const { show } = opened('/t/acme', snapshot({ licenses: [license, { ...license, id: 'lic_2', product: 'sim' }] }))
    show(answersQueue(queue(waiter(1, 'carol'))))
    await userEvent.click(await screen.findByRole('link', { name: 'cad' }))
    expect(await screen.findByRole('table', { name: 'Queue of cad' })).toHaveTextContent('carol')
    await userEvent.click(screen.getByRole('link', { name: 'cad' }))
    expect(await within(await section()).findByText('Choose a license to see who waits for a seat of it.')).toBeInTheDocument()
  })
})
