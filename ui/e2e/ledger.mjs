// The real binary under test, and its API.
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const binary = new URL('../../bin/ledger', import.meta.url).pathname

export function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.on('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}

/** Polls until condition returns something true, and returns that. */
export async function until(what, condition, ms = 60_000) {
  const end = Date.now() + ms
  for (;;) {
    const value = await condition()
    if (value) return value
    if (Date.now() > end) throw new Error(`${what}: not within ${ms} ms`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

export class Ledger {
  constructor(port) {
    this.port = port
    this.url = `http://127.0.0.1:${port}`
    this.data = mkdtempSync(join(tmpdir(), 'ledger-browser-'))
    this.output = ''
  }

  async start() {
    this.process = spawn(binary, ['up', '--addr', `127.0.0.1:${this.port}`, '--data', this.data], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...globalThis.process.env, LEDGER_LEASE_SECONDS_MIN: '1' } })
    const process = this.process
    for (const stream of [process.stdout, process.stderr]) stream.on('data', (text) => (this.output += text))
    await until('the ledger is ready', async () => {
      if (process.exitCode !== null) throw new Error(`the ledger ended:\n${this.output}`)
      return fetch(`${this.url}/readyz`).then((r) => r.ok, () => false)
    })
    this.operator = readFileSync(join(this.data, 'operator.key'), 'utf8').trim()
  }

  async kill(signal = 'SIGKILL') {
    const { process } = this
    if (process.exitCode !== null || process.signalCode !== null) return
    const ended = new Promise((resolve) => process.on('exit', resolve))
    process.kill(signal)
    await ended
  }

  /** Stops the ledger and removes its data. */
  async remove() {
    await this.kill('SIGTERM')
    rmSync(this.data, { recursive: true, force: true })
  }

  async post(path, key, body, expected = [200, 201], method = 'POST') {
    const response = await fetch(`${this.url}/api/v1${path}`, { method, headers: { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' }, body: JSON.stringify(body) })
    const answer = await response.json()
    if (!expected.includes(response.status)) throw new Error(`${method} ${path}: ${response.status} ${JSON.stringify(answer)}`)
    return answer
  }

  patch(path, key, body) {
    return this.post(path, key, body, [200], 'PATCH')
  }

  tenant(id, name) {
    return this.post('/tenants', this.operator, { id, name })
  }

  license(tenant, product, seats, leaseSeconds) {
    return this.post(`/tenants/${tenant}/licenses`, this.operator, { product, seats, lease_seconds: leaseSeconds })
  }

  /** Takes a seat; with waitSeconds it may wait in the queue for one. */
  async acquire(key, user, waitSeconds = 0) {
    return (await this.post('/licenses/acquire', key, { user, machine: `ws-${user}`, ...(waitSeconds ? { wait_seconds: waitSeconds } : {}) })).lease
  }
}
