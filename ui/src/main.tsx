import { QueryClient, QueryClientProvider } from '@tanstack/react-query'
import { RouterProvider } from '@tanstack/react-router'
import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { mayPass } from './api/client'
import { onSession, signInFromAddress } from './api/session'
import { createAppRouter } from './router'
import './styles.css'

signInFromAddress()
// The same address pasted into a tab that is open already does not load the page again.
addEventListener('hashchange', signInFromAddress)

const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      // A refusal stays a refusal; only a failing network or server is asked again.
      retry: (failures, error) => failures < 2 && mayPass(error),
      refetchOnWindowFocus: false,
    },
  },
})
// What one key could see is not left behind for the next.
onSession(() => queryClient.clear())
const router = createAppRouter()

// After an update of the server the old pieces of the page are gone. A piece that is still missing then is an error.
addEventListener('vite:preloadError', (event) => {
  if (performance.now() < 10_000) return
  event.preventDefault()
  location.reload()
})

const root = document.getElementById('root')
if (root) {
  createRoot(root).render(
    <StrictMode>
      <QueryClientProvider client={queryClient}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </StrictMode>,
  )
}
