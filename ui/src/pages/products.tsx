import { createFileRoute } from '@tanstack/react-router'
import { TextPage } from '../components/TextPage'

export const Route = createFileRoute('/products')({ component: ProductsPage })

function ProductsPage() {
  return (
    <TextPage title="Products">
      <p>
        The License Ledger hands out the floating seats of a license: a program takes a seat, keeps it while
        it runs and gives it back. A seat whose program died comes free by itself.
      </p>
      <p>Every change is an event that is never edited. What these pages show is rebuilt from those events.</p>
    </TextPage>
  )
}
