import { createFileRoute } from '@tanstack/react-router'
import { TextPage } from '../components/TextPage'

export const Route = createFileRoute('/support')({ component: SupportPage })

function SupportPage() {
  return (
    <TextPage title="Support">
      <p>When something fails, the message on the page has a request id; the same id is in the log of the service.</p>
      <p>
        Whether the services are ready is answered at{' '}
        <a href="/readyz" className="text-link underline">
          /readyz
        </a>
        , with the reason when they are not.
      </p>
    </TextPage>
  )
}
