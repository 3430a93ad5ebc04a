/** A call of the API as the operator, ready to paste where the ledger was started. */
export function Command({ path, body }: { path: string; body: object }) {
  return (
    <pre className="mt-3 rounded bg-surface-2 p-3 font-mono break-all whitespace-pre-wrap select-all">
      {`curl -sS ${location.origin}/api/v1${path} \\
  -H "Authorization: Bearer $(cat data/operator.key)" \\
  -d '${JSON.stringify(body)}'`}
    </pre>
  )
}
