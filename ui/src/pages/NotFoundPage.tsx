import { Link } from '@tanstack/react-router'
import { useTitle } from '../lib/useTitle'

export function NotFoundPage() {
  useTitle('Not found')
  return (
    <section>
      <h1 className="text-xl/7 font-semibold">There is no such page</h1>
      <p className="mt-2 text-muted">
        The address may be mistyped.{' '}
        <Link to="/" className="text-link underline">
          Go to the tenants
        </Link>
        .
      </p>
    </section>
  )
}
