import { client, unwrap } from './client'

/** Asks for a tenant's leases as a CSV and lets the browser save it. Filters are those of the list. */
export async function downloadSeats(tenant: string, query: { license?: string; state?: 'active' }): Promise<void> {
  const call = client.GET('/api/v1/tenants/{tenant}/seats', { params: { path: { tenant }, query }, headers: { Accept: 'text/csv' }, parseAs: 'blob' })
  const file: Blob = await unwrap(call)
  const { response } = await call
  const name = /filename="([^"]+)"/.exec(response.headers.get('Content-Disposition') ?? '')?.[1] ?? `${tenant}-seats.csv`
  const link = document.createElement('a')
  link.href = URL.createObjectURL(file)
  link.download = name
  link.click()
  URL.revokeObjectURL(link.href)
}
