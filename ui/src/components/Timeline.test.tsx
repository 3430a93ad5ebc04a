import { screen, waitFor } from '@testing-library/react'
import userEvent from '@testing-library/user-event'
import { http, HttpResponse } from 'msw'
import { afterEach, expect, it, vi } from 'vitest'
import { acquired, answersTenant, event, liveStream, names, snapshot } from '../test/ledger'
import { renderAt } from '../test/render'
import { server } from '../test/server'

afterEach(() => vi.restoreAllMocks())

const timeline = '*/api/v1/tenants/acme/timeline'

it('finds events in the language of the timeline', async () => {
  const live = liveStream()
  const denied = event('seat.denied', { license: 'lic_1', user: 'user_1', machine: 'machine_1', reason: 'no_seat_available' }, '9')
  const asked: (string | null)[] = []
  server.use(
    http.get(timeline, ({ request }) => {
      const q = new URL(request.url).searchParams.get('q')
      asked.push(q)
      if (q === 'ada') {
        const problem = { type: 'about:blank', title: 'Bad', status: 400, code: 'invalid_request', field: 'q', detail: 'q, at character 1: a word alone has no meaning here' }
        return HttpResponse.json(problem, { status: 400, headers: { 'Content-Type': 'application/problem+json' } })
      }
      return HttpResponse.json({ items: q === 'type:seat.evicted' ? [] : [{ event: denied }], next: '', names, position: 'p', age_seconds: 0 })
    }),
    ...answersTenant(snapshot({ events: [acquired] }), live.stream),
  )
  renderAt('/t/acme?q=type:seat.denied')
  expect(await screen.findByText(/ada on ws-1, cad: all seats in use/)).toBeInTheDocument()
  const box = screen.getByRole('textbox', { name: /Find events/ })
  expect(box).toHaveValue('type:seat.denied')

  const ask = async (q: string) => {
    const input = screen.getByRole('textbox', { name: /Find events/ })
    await userEvent.clear(input)
    await userEvent.type(input, `${q}{Enter}`)
  }
  await ask('ada')
  expect(await screen.findByText(/at character 1: a word alone/)).toHaveAttribute('role', 'alert')
  await ask('type:seat.evicted')
  expect(await screen.findByText('No event is like this.')).toBeInTheDocument()
  await userEvent.click(screen.getByRole('button', { name: 'Show all' }))
  expect(await screen.findByRole('heading', { name: 'Newest events' })).toBeInTheDocument()
  expect(asked.filter((q) => q !== null)).toEqual(['type:seat.denied', 'ada', 'type:seat.evicted'])
  live.end()
})

it('saves the leases as a CSV', async () => {
  const live = liveStream()
  let request: Request | undefined
  server.use(
    http.get('*/api/v1/tenants/acme/seats', ({ request: asked }) => {
      if (asked.headers.get('Accept') !== 'text/csv') return undefined
      request = asked
      return new HttpResponse('id\r\n', { headers: { 'Content-Type': 'text/csv', 'Content-Disposition': 'attachment; filename="acme-seats-1.csv"' } })
    }),
    ...answersTenant(snapshot(), live.stream),
  )
  URL.createObjectURL = () => 'blob:1'
  URL.revokeObjectURL = () => undefined
  let saved = ''
  vi.spyOn(HTMLAnchorElement.prototype, 'click').mockImplementation(function (this: HTMLAnchorElement) {
    saved = `${this.download} from ${this.href}`
  })
  renderAt('/t/acme?license=lic_1')
  await userEvent.click(await screen.findByRole('button', { name: 'Download as CSV' }))
  await waitFor(() => expect(saved).toBe('acme-seats-1.csv from blob:1'))
  expect(new URL(request!.url).search).toBe('?state=active&license=lic_1')
  live.end()
})
