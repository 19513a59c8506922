// The page, on a server that runs the demo at FOURFOLD_URL.
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import { mkdir } from "node:fs/promises"
import { after, before, test } from "node:test"

import { launch, openPage, panels, untilReading } from "./browser.mjs"
import { Proxy } from "./proxy.mjs"

const server = process.env.FOURFOLD_URL?.replace(/\/$/, "")
const pictures = process.env.FOURFOLD_SCREENSHOTS
const TRANSPORTS = ["websocket", "sse", "long-poll", "short-poll"]
const LIMIT = { timeout: 90_000 }

let browser
before(async () => {
  assert.ok(server, "FOURFOLD_URL names a server that runs the demo")
  browser = await launch()
})
after(() => browser?.close())

test("four transports read the same records", LIMIT, async () => {
  const { page, faults } = await openPage(browser, server)
  await untilReading(page, [], 16)
  assert.deepEqual((await panels(page)).map(({ transport }) => transport), TRANSPORTS)
  assert.equal(new URL(page.url()).hash, "#demo/vitals")

  const seen = await page.evaluate(() => window.seen.map((records) => records.map(({ n }) => n)))
  const from = Math.max(...seen.map((all) => all[0]))
  const to = Math.min(...seen.map((all) => all.at(-1)))
  assert.ok(to - from >= 8, `a window common to all: ${from} to ${to}`)
  const window = Array.from({ length: to - from + 1 }, (_, step) => from + step)
  for (const all of seen) assert.deepEqual(all.filter((n) => n >= from && n <= to), window)
  assert.equal(await page.textContent('[data-slot="reading"]'), "4 of 4")
  await leave(page, faults)
})

test("a panel that was cut goes on where it was", LIMIT, async () => {
  const { page, faults } = await openPage(browser, server)
  await untilReading(page, [], 4)
  const panelsBefore = await panels(page)
  for (const panel of await page.$$(".panel")) await (await panel.$('[data-action="cut"]')).click()
  await page.waitForFunction(() => [...document.querySelectorAll(".panel")].every(({ dataset }) => dataset.state === "cut"))
  await untilReading(page, panelsBefore, 8)
  await assertWhole(page)
  await leave(page, faults)
})

test("a panel goes on over each other transport", LIMIT, async () => {
  const { page, faults } = await openPage(browser, server)
  await untilReading(page, [], 4)
  // Steps of 1, 2 and 3 through the ring of four: every panel meets every transport, and every change is made.
  let at = [0, 1, 2, 3]
  for (const step of [1, 2, 3]) {
    at = at.map((transport) => (transport + step) % 4)
    const panelsBefore = await panels(page)
    const elements = await page.$$(".panel")
    for (const [place, panel] of elements.entries()) {
      await (await panel.$(`[data-action="switch"][data-to="${TRANSPORTS[at[place]]}"]`)).click()
    }
    await untilReading(page, panelsBefore, 6)
    assert.deepEqual((await panels(page)).map(({ transport }) => transport), at.map((transport) => TRANSPORTS[transport]))
    await assertWhole(page)
  }
  await leave(page, faults)
})

test("every panel outlives a network that cuts", LIMIT, async () => {
  const proxy = await Proxy.before(server)
  const { page, faults } = await openPage(browser, proxy.url)
  await untilReading(page, [], 4)
  for (let cuts = 0; cuts < 3; cuts += 1) {
    const panelsBefore = await panels(page)
    assert.ok(proxy.cut() > 0)
    await untilReading(page, panelsBefore, 8)
  }
  await assertWhole(page)
  assert.ok(proxy.resumedFrom.length >= 3, "the browser's own EventSource resumed by Last-Event-ID")
  await leave(page, faults.filter((fault) => !/Failed to load resource|WebSocket connection to/.test(fault)))
  await proxy.close()
})

test("what the forms send is what the panels show", LIMIT, async () => {
  const { page, faults } = await openPage(browser, server)
  await untilReading(page)
  for (const [type, record, shown] of [
    ["application/json", '{"spice":"saffron"}', '{"spice":"saffron"}'],
    ["text/plain", "a pinch of saffron", "a pinch of saffron"],
  ]) {
    const name = `browser/${randomUUID()}`
    await page.fill('[data-slot="create"] [name="name"]', name)
    await page.check(`[data-slot="create"] [value="${type}"]`, { force: true })
    await page.click('[data-slot="create"] button')
    await page.waitForFunction((name) => document.querySelector('[data-slot="stream-name"]').textContent === name, name)
    assert.match(await page.textContent('[data-slot="stream-type"]'), new RegExp(`^${type}`))

    await page.fill('[data-slot="append"] [name="record"]', record)
    await page.click('[data-slot="append"] button')
    await untilReading(page, [], 1)
    await page.waitForFunction(
      (shown) => [...document.querySelectorAll(".panel")].every((panel) => panel.querySelector(".recent li").textContent === shown),
      shown,
    )
    const [{ offset }] = await panels(page)
    assert.equal(await page.textContent('[data-slot="append-answer"]'), `Stream-Next-Offset: ${offset}`)

    await page.reload()
    await page.waitForFunction((name) => document.querySelector('[data-slot="stream-name"]').textContent === name, name)
    await page.click('[data-action="start"][data-offset="-1"]')
    await untilReading(page, [], 1)
  }
  await page.fill('[data-slot="append"] [name="record"]', "x")
  await leave(page, faults)
})

test("hostile names and records stay text", LIMIT, async () => {
  const markup = '<img src=x onerror="window.struck=1">'
  for (const type of ["application/json", "text/plain"]) {
    const name = `${markup}'\`\${x}-${randomUUID()}`
    const record = type === "text/plain" ? markup : JSON.stringify({ [markup]: 7, text: markup })
    const url = `${server}/v1/stream/${encodeURIComponent(name)}`
    const headers = { "Content-Type": type }
    assert.equal((await fetch(url, { method: "PUT", headers })).status, 201)
    assert.ok((await fetch(url, { method: "POST", headers, body: record })).ok)

    const { page, faults } = await openPage(browser, `${server}/#${encodeURIComponent(name)}`)
    await page.click('[data-action="start"][data-offset="-1"]')
    await untilReading(page, [], 1)
    await page.waitForFunction(
      (record) => [...document.querySelectorAll(".panel")].every((panel) => panel.querySelector(".recent li").textContent === record),
      record,
    )
    assert.equal(await page.textContent('[data-slot="stream-name"]'), name)
    assert.equal(await page.locator("img").count(), 1, "the page's own mark is its only picture")
    assert.equal(await page.evaluate(() => window.struck), undefined)
    await leave(page, faults)
  }
})

test("a gap is told, and a closed stream ends in peace", LIMIT, async () => {
  const name = `browser/${randomUUID()}`
  const url = `${server}/v1/stream/${name}`
  const headers = { "Content-Type": "application/json" }
  const append = (body, more = {}) => fetch(url, { method: "POST", headers: { ...headers, ...more }, body })
  await fetch(url, { method: "PUT", headers: { ...headers, "Stream-Retention-Records": "4" } })
  await append("[1,2,3]")

  const { page, faults } = await openPage(browser, `${server}/#${name}`)
  await page.click('[data-action="start"][data-offset="-1"]')
  await untilReading(page, [], 3)
  for (const panel of await page.$$(".panel")) await (await panel.$('[data-action="cut"]')).click()
  await append(JSON.stringify(Array.from({ length: 21 }, (_, step) => 4 + step)))
  await page.waitForFunction(() => [...document.querySelectorAll(".panel")].every(({ dataset }) => dataset.gaps === "1"))
  await untilReading(page, await panels(page), 0)

  await append("25", { "Stream-Closed": "true" })
  await page.waitForFunction(() => [...document.querySelectorAll(".panel")].every(({ dataset }) => dataset.state === "closed"))
  const seen = await page.evaluate(() => window.seen)
  for (const records of seen) assert.deepEqual(records.slice(-4), [22, 23, 24, 25])
  await leave(page, faults.filter((fault) => !/Failed to load resource.*410|WebSocket connection to/.test(fault)))
})

test("the page is looked at", { ...LIMIT, skip: !pictures }, async () => {
  await mkdir(pictures, { recursive: true })
  for (const [name, options] of Object.entries({
    light: { colorScheme: "light" },
    dark: { colorScheme: "dark" },
    phone: { colorScheme: "dark", viewport: { width: 390, height: 844 }, deviceScaleFactor: 2 },
  })) {
    const { page, faults } = await openPage(browser, server, options)
    await page.click('[data-action="start"][data-offset="-1"]')
    await untilReading(page, [], 24)
    const [wide, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth])
    assert.ok(wide <= screen, `${name}: ${wide} px wide on a screen of ${screen}`)
    await page.screenshot({ path: `${pictures}/${name}.png` })
    await leave(page, faults)
  }
})

async function assertWhole(page) {
  for (const { transport, gaps, lost, doubled, disordered } of await panels(page)) {
    assert.deepEqual({ gaps, lost, doubled, disordered }, { gaps: 0, lost: 0, doubled: 0, disordered: 0 }, transport)
  }
  for (const records of await page.evaluate(() => window.seen)) {
    const numbers = records.map(({ n }) => n)
    assert.deepEqual(numbers, numbers.map((_, step) => numbers[0] + step))
  }
}

async function leave(page, faults) {
  assert.deepEqual(faults, [])
  assert.deepEqual(await page.evaluate(() => window.breaches), [])
  await page.close()
}
