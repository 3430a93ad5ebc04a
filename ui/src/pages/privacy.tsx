import { createFileRoute } from '@tanstack/react-router'
import { TextPage } from '../components/TextPage'

export const Route = createFileRoute('/privacy')({ component: PrivacyPage })

function PrivacyPage() {
  return (
    <TextPage title="Privacy">
      <p>
        Events hold no names: users, machines and processes are random pseudonyms. Their clear text is kept
        apart from the events.
      </p>
      <p>
        This page stores your choice of theme, and the key you signed in with until you close the tab. It
        sends nothing to anyone but this ledger.
      </p>
    </TextPage>
  )
}
