import { createFileRoute } from '@tanstack/react-router'
import { TextPage } from '../components/TextPage'

export const Route = createFileRoute('/contact')({ component: ContactPage })

function ContactPage() {
  return (
    <TextPage title="Contact">
      <p>This ledger is run by whoever installed it. Your administrator knows whom to ask.</p>
    </TextPage>
  )
}
