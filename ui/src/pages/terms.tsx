import { createFileRoute } from '@tanstack/react-router'
import { TextPage } from '../components/TextPage'

export const Route = createFileRoute('/terms')({ component: TermsPage })

function TermsPage() {
  return (
    <TextPage title="Terms">
      <p>The terms are those of your agreement with whoever runs this ledger.</p>
    </TextPage>
  )
}
