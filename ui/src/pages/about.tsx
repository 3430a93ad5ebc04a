import { createFileRoute } from '@tanstack/react-router'
import { TextPage } from '../components/TextPage'

export const Route = createFileRoute('/about')({ component: AboutPage })

function AboutPage() {
  return (
    <TextPage title="About">
      <p>AZ1.AI builds the License Ledger for software vendors who need to know, and to prove, who held which
      seat when.</p>
    </TextPage>
  )
}
