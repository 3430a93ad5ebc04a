/** Boxes of the size of what is coming. */
export function Skeleton({ rows, label }: { rows: number; label: string }) {
  return (
    <output className="grid gap-3">
      <span className="sr-only">{label}</span>
      {Array.from({ length: rows }, (_, i) => (
        <div key={i} className="skeleton h-16" />
      ))}
    </output>
  )
}
