// Runs after vite build: compresses what is worth it, so that the server need not (index.html is different in each
// answer), and fails when the page has grown beyond its budget.
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'

const dist = new URL('../dist', import.meta.url).pathname
/** Budgets for all pages together, in bytes as brotli; and for any one file, as gzip. */
const budgets = { '.js': 170_000, '.css': 12_000 }
const fileBudget = 100_000
const sums = { '.js': 0, '.css': 0 }
let failed = false

writeFileSync(join(dist, '.gitkeep'), '') // vite empties the folder; without this file a build without Node fails

for (const name of readdirSync(dist, { recursive: true })) {
  const path = join(dist, name)
  if (!statSync(path).isFile() || !/\.(js|css|svg)$/.test(name)) continue
  const bytes = readFileSync(path)
  const br = brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } })
  writeFileSync(`${path}.br`, br)
  const gz = gzipSync(bytes, { level: 9 })
  writeFileSync(`${path}.gz`, gz)
  if (gz.length > fileBudget) {
    failed = true
    console.log(`${name}: ${gz.length / 1000} kB gz of ${fileBudget / 1000} kB, OVER BUDGET`)
  }
  const kind = name.slice(name.lastIndexOf('.'))
  if (kind in sums) sums[kind] += br.length
}

for (const [kind, budget] of Object.entries(budgets)) {
  const over = sums[kind] > budget
  failed ||= over
  console.log(`${kind.slice(1)}: ${(sums[kind] / 1000).toFixed(1)} kB br of ${budget / 1000} kB${over ? ', OVER BUDGET' : ''}`)
}
process.exit(failed ? 1 : 0)
