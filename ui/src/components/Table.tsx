/** A table that becomes blocks below the width of one, each cell named: nothing scrolls sideways. */
export function Table({ caption, titles, children }: { caption: string; titles: string[]; children: React.ReactNode }) {
  return (
    <table className="w-full border-collapse text-left max-md:block">
      <caption className="sr-only">{caption}</caption>
      <thead className="border-b border-line text-xs/4 text-muted max-md:sr-only">
        <tr>
          {titles.map((title) => (
            <th key={title} scope="col" className="px-3 py-2 font-medium whitespace-nowrap">
              {title}
            </th>
          ))}
        </tr>
      </thead>
      <tbody className="max-md:block">{children}</tbody>
    </table>
  )
}

/** A row of a Table; one that is gone is struck through. */
export function Row({ gone, children, ...data }: { gone?: boolean; children: React.ReactNode } & { [attribute: `data-${string}`]: string | number }) {
  return (
    <tr {...data} className={`border-b border-line last:border-0 max-md:grid hover:bg-surface-2 max-md:grid-cols-2 max-md:gap-x-3 max-md:px-3 max-md:py-2 ${gone ? 'text-muted line-through' : ''}`}>
      {children}
    </tr>
  )
}

/** A cell of a Row, under its title. */
export function Cell({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <td className="px-3 py-2 max-md:px-0 max-md:py-0.5">
      <span className="mr-1 text-xs/4 text-muted md:hidden">{name}</span>
      {children}
    </td>
  )
}
