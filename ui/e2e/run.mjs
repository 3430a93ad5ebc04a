// Drives the real binary in a real browser. Prints a line per check; exits with 1 when one fails.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { chromium } from 'playwright-core'
import { freePort, Ledger, until } from './ledger.mjs'

const executablePath = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((p) => p && existsSync(p))
if (!executablePath) {
  console.error('No Chromium found. Install it: apt-get install chromium fonts-liberation; or say where it is: CHROMIUM=/path')
  process.exit(1)
}
const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const screenshots = process.env.SCREENSHOTS // a folder, to look at the pages
if (screenshots) mkdirSync(screenshots, { recursive: true })

/** What the page has to show within. */
const soon = 1000
const themes = ['light', 'dark']
const widths = [1280, 360]
/** A page at 1280 px under 400 % zoom. */
const narrowest = 320

let passed = 0
let failed = 0
async function check(name, run) {
  try {
    await run()
    passed++
    console.log(`ok    ${name}`)
  } catch (error) {
    failed++
    console.log(`FAIL  ${name}\n      ${String(error.message ?? error).replaceAll('\n', '\n      ')}`)
  }
}

function equal(got, want, what) {
  if (JSON.stringify(got) !== JSON.stringify(want)) throw new Error(`${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`)
}

const ledger = new Ledger(await freePort())
await ledger.start().catch(async (error) => {
  await ledger.remove()
  throw error
})
const browser = await chromium.launch({
  executablePath,
  args: ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ...(process.getuid?.() === 0 ? ['--no-sandbox'] : [])],
})

/** Complaints of any page: errors, warnings and breaches of the content security policy. */
const complaints = []
let serverIsDown = false
async function newContext(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce', ...options })
  await context.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (e) => console.error(`CSP: ${e.violatedDirective} ${e.blockedURI}`))
  })
  context.on('console', (message) => {
    if (['error', 'warning'].includes(message.type()) && !serverIsDown && !expected.some((e) => e.test(message.text()))) complaints.push(message.text())
  })
  context.on('weberror', (error) => complaints.push(String(error.error())))
  return context
}
/** What a browser logs by itself when a test asks for something that is refused. */
let expected = []

const context = await newContext()
const page = await context.newPage()
const inUse = (product) => page.locator('li', { has: page.getByRole('link', { name: product, exact: true }) }).getByTestId('in-use')
const shows = (locator, text) => locator.filter({ hasText: text }).first().waitFor({ timeout: soon })
const event = (type) => page.locator(`[data-event="ai.coditect.${type}.v1"]`)

const sideways = (target) => target.evaluate(() => document.documentElement.scrollWidth - innerWidth)

/** Runs the command that the page offers, as a person would paste it. */
function paste(command) {
  return execFileSync('bash', ['-euc', command.replace('data/operator.key', `"${ledger.data}/operator.key"`)], { encoding: 'utf8' })
}

async function isClean(target, name) {
  for (const theme of themes) {
    await target.evaluate((t) => {
      localStorage.setItem('theme', t)
      document.documentElement.classList.toggle('dark', t === 'dark')
    }, theme)
    for (const width of widths) {
      await target.setViewportSize({ width, height: 900 })
      if (screenshots) await target.screenshot({ path: `${screenshots}/${name.replaceAll(' ', '-')}-${theme}-${width}.png`, fullPage: true })
      await check(`${name}, ${theme}, ${width} px: axe finds nothing, nothing scrolls sideways`, async () => {
        await target.evaluate(axeSource)
        const { violations } = await target.evaluate(() => globalThis.axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }))
        equal(violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).join(' ')}`), [], 'violations')
        equal(await sideways(target), 0, 'pixels that scroll sideways')
      })
    }
  }
  await target.setViewportSize({ width: narrowest, height: 900 })
  await check(`${name}, ${narrowest} px: nothing scrolls sideways`, async () => equal(await sideways(target), 0, 'pixels'))
  await target.setViewportSize({ width: 1280, height: 900 })
}

try {
  await page.goto(ledger.url)
  await page.getByLabel('Operator key').waitFor()
  await isClean(page, 'sign-in')
  await check('a malformed key is told at once, a wrong one after asking', async () => {
    await page.getByLabel('Operator key').fill('nonsense')
    await page.getByRole('button', { name: 'Sign in' }).click()
    await shows(page.getByRole('alert'), 'begins with op_')
    expected = [/401/]
    await page.getByLabel('Operator key').fill(`op_${'x'.repeat(43)}`)
    await page.getByRole('button', { name: 'Sign in' }).click()
    await page.getByRole('alert').filter({ hasText: 'does not know this key' }).waitFor()
  })
  await check('the address that the ledger prints signs in and hides the key', async () => {
    // The page is open already, so this does not load it again.
    await page.goto(`${ledger.url}/#key=${ledger.operator}`)
    await page.getByRole('heading', { name: 'No tenants yet' }).waitFor()
    equal(page.url(), `${ledger.url}/`, 'address')
  })
  await isClean(page, 'no tenants')
  expected = [] // only now: a browser may report a refused request late
  await check('the command on the page creates a tenant, and it appears in the list by itself', async () => {
    const answer = paste(await page.locator('pre').innerText())
    if (!answer.includes('Acme Corp')) throw new Error(answer)
    await page.getByRole('link', { name: 'Acme Corp' }).waitFor({ timeout: 10_000 })
  })
  await check('a tenant without a license says how to issue one, and the command works', async () => {
    await ledger.tenant('umbra', 'Umbra')
    await page.getByRole('link', { name: 'Umbra' }).click()
    await page.getByTestId('live-state').filter({ hasText: 'Live' }).waitFor()
    const answer = paste(await page.locator('pre').first().innerText())
    if (!answer.includes('lk_umbra_')) throw new Error(answer)
    await shows(inUse('cad'), /^0$/)
    await page.getByRole('link', { name: 'All tenants' }).click()
  })

  const cad = await ledger.license('acme', 'cad', 5, 300)
  const sim = await ledger.license('acme', 'sim', 2, 3)
  await isClean(page, 'tenants')
  await page.getByRole('link', { name: 'Acme Corp' }).click()
  await page.getByRole('heading', { name: 'Acme Corp' }).waitFor()
  await check('each answer has its own nonce, and what is no page is not answered with one', async () => {
    const policies = await Promise.all([1, 2].map(async () => (await fetch(ledger.url)).headers.get('Content-Security-Policy')))
    if (policies[0] === policies[1] || policies.some((p) => !/style-src 'self' 'nonce-\w{22,}'/.test(p) || /unsafe/.test(p))) throw new Error(policies.join('\n'))
    for (const path of ['/api/v1/nothing', '/assets/gone.js', '/assets/gone']) equal((await fetch(ledger.url + path)).status, 404, path)
  })
  await check('the page is live', () => page.getByTestId('live-state').filter({ hasText: 'Live' }).waitFor())
  await isClean(page, 'tenant without leases')
  // From here on nothing loads the page again: the mark would be gone.
  await page.evaluate(() => (globalThis.notReloaded = true))

  const leases = []
  const delays = []
  for (const [i, user] of ['ada', 'bob', 'carol', 'dan', 'eve'].entries()) {
    leases.push(await ledger.acquire(cad.key, user))
    const answered = performance.now()
    await check(`acquire ${i + 1} of 5 shows within a second`, async () => {
      await shows(inUse('cad'), new RegExp(`^${i + 1}$`))
      await page.locator(`[data-lease="${leases[i].id}"]`, { hasText: user }).waitFor({ timeout: soon })
    })
    delays.push(Math.round(performance.now() - answered))
  }
  await ledger.post('/licenses/acquire', cad.key, { user: 'frank', machine: 'ws-frank' }, [409])
  await check('the sixth is denied, and the denial shows within a second', () => shows(event('seat.denied'), 'frank on ws-frank, cad: all seats in use'))
  await isClean(page, 'tenant full')

  await page.getByRole('link', { name: 'cad', exact: true }).click()
  const queue = page.getByRole('region', { name: 'Waiting for a seat of cad' })
  const place = (n) => queue.locator(`[data-place="${n}"]`)
  await check('the queue of a license is empty at first', () => shows(queue, 'Nobody waits; 5 of 5 seats are in use.'))
  const waits = []
  for (const [i, user] of ['vera', 'walt', 'xena'].entries()) {
    waits.push(ledger.acquire(cad.key, user, 60))
    await check(`who waits shows, ${i + 1} of 3`, () => place(i + 1).filter({ hasText: user }).waitFor({ timeout: 2 * soon })) // it is asked for once a second
  }
  await isClean(page, 'queue')
  await check('a seat that is given back goes to the next in turn, and the others move up', async () => {
    await ledger.post('/licenses/release', cad.key, { lease: leases[4].id })
    const given = await waits[0]
    await place(1).filter({ hasText: 'walt' }).waitFor({ timeout: 2 * soon })
    await shows(place(2), 'less than a minute')
    equal(await queue.locator('[data-place]').count(), 2, 'waiters')
    await page.locator(`[data-lease="${given.id}"]`, { hasText: 'vera' }).waitFor({ timeout: soon })
    leases[4] = given
  })
  await ledger.patch(`/tenants/acme/licenses/${cad.license.id}`, ledger.operator, { seats: 7 })
  for (const lease of await Promise.all(waits.slice(1))) await ledger.post('/licenses/release', cad.key, { lease: lease.id })
  await check('nobody waits when there are seats for all', () => queue.getByText('Nobody waits').waitFor({ timeout: 2 * soon }))
  await ledger.patch(`/tenants/acme/licenses/${cad.license.id}`, ledger.operator, { seats: 5 })
  await page.getByRole('link', { name: 'Show those of all licenses' }).click()

  const shownExpiry = () => page.locator(`[data-lease="${leases[1].id}"]`).getByTestId('expires').getAttribute('datetime')
  const before = await shownExpiry()
  const beat = await ledger.post('/licenses/heartbeat', cad.key, { lease: leases[1].id })
  await check('a heartbeat moves the expiry within a second', async () => {
    await until('expiry', async () => Date.parse(await shownExpiry()) === Date.parse(beat.lease.expires_at), soon)
    if (Date.parse(before) >= Date.parse(beat.lease.expires_at)) throw new Error('it did not move')
  })
  await ledger.post('/licenses/release', cad.key, { lease: leases[0].id })
  await check('a release shows within a second', async () => {
    await shows(inUse('cad'), /^4$/)
    await shows(event('seat.released'), 'ada on ws-ada')
    await shows(page.locator(`[data-lease="${leases[0].id}"]`), 'Released')
  })
  await check('the released lease leaves the table', () => page.locator(`[data-lease="${leases[0].id}"]`).waitFor({ state: 'detached', timeout: 10_000 }))

  const died = await ledger.acquire(sim.key, 'grace')
  await check('the seat of a program that died comes free by itself', async () => {
    await shows(inUse('sim'), /^1$/)
    await until('end of the lease', () => Date.now() >= Date.parse(died.expires_at), 10_000)
    await shows(event('seat.expired'), 'grace on ws-grace')
    await shows(inUse('sim'), /^0$/)
  })
  await ledger.post(`/tenants/acme/licenses/${sim.license.id}/suspend`, ledger.operator, { reason: 'audit' })
  await check('a suspended license shows within a second', async () => {
    await shows(page.locator('main'), 'No new seats and no renewals until it is reinstated')
    await shows(event('license.suspended'), 'sim: audit')
  })
  await ledger.post(`/tenants/acme/licenses/${sim.license.id}/reinstate`, ledger.operator, {})
  await ledger.post('/tenants/acme/suspend', ledger.operator, { reason: 'unpaid' })
  await check('a suspension shows within a second', async () => {
    await shows(page.locator('main'), 'This tenant is suspended.')
    await shows(event('tenant.suspended'), 'unpaid')
  })
  await isClean(page, 'tenant suspended')
  await ledger.post('/tenants/acme/reinstate', ledger.operator, {})
  await check('a reinstatement shows within a second', async () => {
    await page.getByText('This tenant is suspended.').waitFor({ state: 'detached', timeout: soon })
    await event('tenant.reinstated').waitFor({ timeout: soon })
  })
  await ledger.patch(`/tenants/acme/licenses/${cad.license.id}`, ledger.operator, { seats: 3 })
  await check('fewer seats than are in use show as over the limit within a second', async () => {
    await shows(page.locator('li', { hasText: 'of 3 seats in use, over the limit' }), 'cad')
    await shows(event('license.resized'), 'cad, 5 → 3 seats')
  })
  await ledger.patch(`/tenants/acme/licenses/${cad.license.id}`, ledger.operator, { seats: 5 })
  const old = await ledger.license('acme', 'old', 2, 300)
  const kicked = await ledger.acquire(old.key, 'olga')
  await page.locator(`[data-lease="${kicked.id}"]`).waitFor()
  await ledger.post(`/tenants/acme/licenses/${old.license.id}/revoke`, ledger.operator, { reason: 'replaced' })
  await check('a revoked license says so within a second, and its leases end', async () => {
    await shows(page.locator('li'), 'Revoked for good')
    await shows(page.locator(`[data-lease="${kicked.id}"]`), 'Revoked')
    await shows(event('license.revoked'), 'old: replaced')
  })
  await isClean(page, 'license revoked')
  await check('a paused page stands still, and catches up', async () => {
    await page.getByTestId('live-state').click()
    const lease = await ledger.acquire(cad.key, 'paula')
    await page.getByText('changes are held back').waitFor()
    await page.waitForTimeout(300) // a change would have shown by now
    equal(await page.locator(`[data-lease="${lease.id}"]`).count(), 0, 'new leases shown')
    await page.getByTestId('live-state').click()
    await page.locator(`[data-lease="${lease.id}"]`).waitFor({ timeout: soon })
    await ledger.post('/licenses/release', cad.key, { lease: lease.id })
  })
  await check('a filter is in the address and survives a copy of it', async () => {
    await page.getByRole('link', { name: 'sim', exact: true }).click()
    await page.getByText('Nobody holds a seat of this license right now.').waitFor()
    const copy = await context.newPage()
    await copy.goto(`${ledger.url}/#key=${ledger.operator}`)
    await copy.goto(page.url())
    await copy.getByText('Nobody holds a seat of this license right now.').waitFor()
    await copy.close()
    await page.getByRole('link', { name: 'Show those of all licenses' }).click()
  })
  await check('the keyboard alone opens an event and signs nobody out', async () => {
    await page.locator('main summary').first().focus()
    await page.keyboard.press('Enter')
    await page.getByText('"specversion": "1.0"').first().waitFor()
  })

  await check('eight tabs share one stream, and the role moves on', async () => {
    const streams = async () => Number((await (await fetch(`${ledger.url}/metrics`)).text()).match(/^ledger_live_streams (\d+)/m)?.[1])
    const tabs = []
    for (let i = 0; i < 7; i++) {
      const tab = await context.newPage()
      await tab.goto(`${ledger.url}/#key=${ledger.operator}`)
      await tab.goto(`${ledger.url}/t/acme`)
      await tab.getByTestId('live-state').filter({ hasText: 'Live' }).waitFor()
      tabs.push(tab)
    }
    equal(await streams(), 1, 'streams of eight tabs')
    // The first page leads. Without it another tab takes over, and no change is lost.
    await page.goto('about:blank')
    const lease = await ledger.acquire(cad.key, 'heidi')
    for (const tab of tabs) await tab.locator(`[data-lease="${lease.id}"]`).waitFor({ timeout: 10_000 })
    equal(await streams(), 1, 'streams after the leader left')
    for (const tab of tabs) await tab.close()
    await page.goto(`${ledger.url}/t/acme`)
    await page.getByTestId('live-state').filter({ hasText: 'Live' }).waitFor()
  })

  await check('without a stream the page asks every 30 seconds, and says so', async () => {
    expected = [/ERR_FAILED/]
    const other = await newContext()
    await other.route('**/live', (route) => route.abort())
    const tab = await other.newPage()
    await tab.clock.install()
    await tab.goto(`${ledger.url}/#key=${ledger.operator}`)
    await tab.getByRole('link', { name: 'Acme Corp' }).click()
    await tab.getByRole('heading', { name: 'Acme Corp' }).waitFor()
    for (let i = 0; i < 4; i++) {
      await tab.waitForTimeout(100)
      await tab.clock.runFor(5000)
    }
    await tab.getByTestId('live-state').filter({ hasText: 'Every 30 s' }).waitFor()
    const held = tab.locator(`[data-lease="${leases[3].id}"]`)
    await held.waitFor()
    await ledger.post('/licenses/release', cad.key, { lease: leases[3].id })
    await tab.clock.runFor(30_000)
    await held.waitFor({ state: 'detached', timeout: soon })
    await other.close()
    expected = []
  })

  let liveAgain = 0
  await check('kill -9 and a new start: the page says so, comes back by itself and misses nothing', async () => {
    await page.evaluate(() => (globalThis.notReloaded = true))
    await ledger.post('/licenses/release', cad.key, { lease: leases[2].id })
    serverIsDown = true
    await ledger.kill()
    await page.getByTestId('live-state').filter({ hasText: 'Reconnecting' }).waitFor()
    await page.getByText('not updated for').waitFor()
    await isClean(page, 'tenant stale')
    await ledger.start()
    const lease = await ledger.acquire(cad.key, 'ivan')
    const up = performance.now()
    await page.getByTestId('live-state').filter({ hasText: 'Live' }).waitFor({ timeout: 15_000 })
    liveAgain = Math.round(performance.now() - up)
    serverIsDown = false
    await page.locator(`[data-lease="${lease.id}"]`, { hasText: 'ivan' }).waitFor({ timeout: soon })
    await page.locator(`[data-lease="${leases[1].id}"]`, { hasText: 'bob' }).waitFor({ timeout: soon })
    equal(await page.evaluate(() => globalThis.notReloaded), true, 'the page was not loaded again')
  })

  await check('an unknown tenant is an error that says what to do', async () => {
    expected = [/404/]
    await page.goto(`${ledger.url}/t/nobody`)
    await page.getByRole('alert').filter({ hasText: 'No such tenant' }).waitFor()
  })
  await isClean(page, 'error')
  expected = []
  await page.goto(`${ledger.url}/nowhere`)
  await page.getByRole('heading', { name: 'There is no such page' }).waitFor()
  await isClean(page, 'not found')
  await check('the page of the API has every call, asks nobody for anything and breaks no policy', async () => {
    const asked = []
    page.on('request', (request) => asked.push(request.url()))
    await page.goto(`${ledger.url}/api/docs`)
    await page.getByRole('navigation', { name: 'Calls' }).getByRole('link', { name: 'Take a seat' }).click()
    await page.getByRole('heading', { name: 'Take a seat' }).waitFor()
    equal(page.url(), `${ledger.url}/api/docs#acquireSeat`, 'address')
    equal(asked, [`${ledger.url}/api/docs`], 'requests')
  })
  await isClean(page, 'api')
  await page.goto(`${ledger.url}/privacy`)
  await page.getByRole('heading', { name: 'Privacy' }).waitFor()
  await isClean(page, 'text')
  await check('another reason is sent from then on, and the tenant sees it in its timeline', async () => {
    await page.goto(`${ledger.url}/t/umbra`)
    await page.getByRole('button', { name: 'account menu' }).click()
    equal(await page.getByLabel('Why you look').inputValue(), 'dashboard', 'the reason until now')
    await isClean(page, 'account menu')
    await page.getByLabel('Why you look').fill('Störung 4711 – €')
    await page.getByRole('button', { name: 'Look for this reason' }).click()
    await page.getByRole('button', { name: 'Look for this reason' }).waitFor({ state: 'hidden' })
    await shows(event('staff.read'), 'Störung 4711 – €')
  })
  await check('signing out forgets the key', async () => {
    await page.getByRole('button', { name: 'account menu' }).click()
    await page.getByRole('button', { name: 'Sign out' }).click()
    await page.goto(ledger.url)
    await page.getByLabel('Operator key').waitFor()
    equal(await page.evaluate(() => Object.values(sessionStorage).filter((v) => v.includes('op_'))), [], 'keys in the session')
  })
  console.log(`from the answer to an acquire to the page: ${delays.join(', ')} ms; live again ${liveAgain} ms after the restart`)
  await check('no page complained: no errors, no warnings, no breach of the content security policy', () => equal(complaints, [], 'complaints'))
} catch (error) {
  failed++
  console.log(`FAIL  the run broke off\n      ${error.stack}`)
  console.log(ledger.output)
} finally {
  await browser.close()
  await ledger.remove()
}
console.log(`\n${passed} passed, ${failed} failed`)
process.exit(failed > 0 ? 1 : 0)
