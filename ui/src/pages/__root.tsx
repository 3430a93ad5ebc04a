import { createRootRoute, Link } from '@tanstack/react-router'
import { Shell } from '../components/Shell'
import { TextPage } from '../components/TextPage'

export const Route = createRootRoute({ component: Shell, notFoundComponent: NotFoundPage })

function NotFoundPage() {
  return (
    <TextPage title="There is no such page">
      <p>
        The address may be mistyped.{' '}
        <Link to="/" className="text-link underline">
          Go to the tenants
        </Link>
        .
      </p>
    </TextPage>
  )
}
