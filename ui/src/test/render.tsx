import { QueryClient, QueryClientProvider } from '@tanstack/react-query'
import { createMemoryHistory, RouterProvider } from '@tanstack/react-router'
import { render } from '@testing-library/react'
import { session } from '../api/session'
import { createAppRouter } from '../router'

/** Renders the whole page at a path, signed in unless told otherwise. */
export function renderAt(path: string, { signedIn = true } = {}) {
  if (signedIn) session.signIn(`op_${'k'.repeat(43)}`)
  const router = createAppRouter(createMemoryHistory({ initialEntries: [path] }))
  const client = new QueryClient({ defaultOptions: { queries: { retry: false } } })
  const view = render(
    <QueryClientProvider client={client}>
      <RouterProvider router={router} />
    </QueryClientProvider>,
  )
  return { ...view, client }
}
