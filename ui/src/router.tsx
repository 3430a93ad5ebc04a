import { createRootRoute, createRoute, createRouter, type RouterHistory } from '@tanstack/react-router'
import { Shell } from './components/Shell'
import { NotFoundPage } from './pages/NotFoundPage'
import { TenantPage } from './pages/TenantPage'
import { TenantsPage } from './pages/TenantsPage'
import { textPages, TextPage } from './pages/TextPage'

const root = createRootRoute({ component: Shell, notFoundComponent: NotFoundPage })

const tenants = createRoute({ getParentRoute: () => root, path: '/', component: TenantsPage })

/** Filters are in the address: a reload or a copied link shows the same. Bad values fall back. */
interface TenantSearch {
  license?: string
}

const tenant = createRoute({
  getParentRoute: () => root,
  path: '/t/$tenant',
  validateSearch: (search: Record<string, unknown>): TenantSearch =>
    typeof search['license'] === 'string' && search['license'] !== '' ? { license: search['license'] } : {},
  component: TenantPage,
})

function text<Path extends keyof typeof textPages>(path: Path) {
  return createRoute({ getParentRoute: () => root, path, component: () => <TextPage page={textPages[path]} /> })
}

const tree = root.addChildren([
  tenants,
  tenant,
  text('/products'),
  text('/about'),
  text('/contact'),
  text('/privacy'),
  text('/terms'),
  text('/support'),
])

export function createAppRouter(history?: RouterHistory) {
  return createRouter({ routeTree: tree, defaultPreload: false, scrollRestoration: true, ...(history ? { history } : {}) })
}

declare module '@tanstack/react-router' {
  interface Register {
    router: ReturnType<typeof createAppRouter>
  }
}
