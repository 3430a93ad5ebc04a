import { useTitle } from '../lib/useTitle'

interface Text {
  title: string
  paragraphs: string[]
}

/** The pages that only say something, by path. */
export const textPages = {
  '/products': {
    title: 'Products',
    paragraphs: [
      'The License Ledger hands out the floating seats of a license: a program takes a seat, keeps it while it runs and gives it back.',
      'Every change is an event that is never edited. What this page shows is rebuilt from those events.',
    ],
  },
  '/about': {
    title: 'About',
    paragraphs: ['AZ1.AI builds the License Ledger for software vendors who need to know, and to prove, who held which seat when.'],
  },
  '/contact': {
    title: 'Contact',
    paragraphs: ['This ledger is run by whoever installed it. Your administrator knows whom to ask.'],
  },
  '/privacy': {
    title: 'Privacy',
    paragraphs: [
      'Events hold no names: users, machines and processes are random pseudonyms. Their clear text is kept apart from the events.',
      'This page stores your choice of theme, and the key you signed in with until you close the tab. It sends nothing to anyone but this ledger.',
    ],
  },
  '/terms': {
    title: 'Terms',
    paragraphs: ['The terms are those of your agreement with whoever runs this ledger.'],
  },
  '/support': {
    title: 'Support',
    paragraphs: [
      'When something fails, the message on the page has a request id; the same id is in the log of the service.',
      'Whether the services are ready is answered at /readyz, with the reason when they are not.',
    ],
  },
} satisfies Record<string, Text>

export function TextPage({ page }: { page: Text }) {
  useTitle(page.title)
  return (
    <article className="max-w-prose">
      <h1 className="text-xl/7 font-semibold">{page.title}</h1>
      {page.paragraphs.map((text) => (
        <p key={text} className="mt-3">
          {text}
        </p>
      ))}
    </article>
  )
}
