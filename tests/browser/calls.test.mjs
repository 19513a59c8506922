// Calls on the page, on a server at FOURFOLD_URL that has those of calls.toml.
import assert from "node:assert/strict"
import { mkdir } from "node:fs/promises"
import { after, before, test } from "node:test"

import { launch, openPage } from "./browser.mjs"

const server = process.env.FOURFOLD_URL?.replace(/\/$/, "")
const pictures = process.env.FOURFOLD_SCREENSHOTS
const LIMIT = { timeout: 90_000 }

let browser
before(async () => {
  assert.ok(server, "FOURFOLD_URL names a server with the calls of calls.toml")
  browser = await launch()
})
after(() => browser?.close())

test("a call is begun from the page, its portions come live, and it ends", LIMIT, async () => {
  const { page, faults } = await openPage(browser, server)
  await begin(page, "count", "")
  await page.waitForFunction(() => document.querySelector('[data-slot="portions"]').textContent.includes('"n":1'))
  await ended(page, "finished")
  await page.waitForFunction(() => document.querySelector('[data-slot="portions"]').textContent.trim().split("\n").length === 5)
  const portions = await page.textContent('[data-slot="portions"]')
  const records = portions.trim().split("\n").map((line) => JSON.parse(line))
  assert.deepEqual(records.map(({ n }) => n), [1, 2, 3, 4, 5])
  assert.equal(await page.$eval('[data-slot="call-progress"]', ({ value }) => value), 0.9)
  assert.match(await page.textContent('[data-slot="call-facts"]'), /^finished · .* s · .* B$/)
  await page.waitForFunction(() => [...document.querySelectorAll(".panel")].every(({ dataset }) => dataset.state === "closed" && dataset.records === "5"))
  assert.equal(await page.evaluate(() => window.struck), undefined, "portions stay text")
  assert.equal(await page.locator('[data-slot="append"]').isVisible(), false, "nobody else writes to it")
  await leave(page, faults)
})

test("a call is cancelled from the page, also by somebody who opens it later", LIMIT, async () => {
  const { page, faults } = await openPage(browser, server)
  await begin(page, "endless", "")
  await page.waitForFunction(() => document.querySelector('[data-slot="portions"]').textContent.includes("tick\ntick\n"))
  const { hash } = new URL(page.url())
  await leave(page, faults)
  const later = await openPage(browser, `${server}/${hash}`)
  await later.page.waitForFunction(() => document.querySelector('[data-slot="portions"]').textContent.startsWith("tick\ntick\n"))
  await later.page.click('[data-slot="call-cancel"]')
  await ended(later.page, "cancelled")
  await later.page.waitForSelector(`[data-slot="call-list"] a[href="${hash}"][data-state="cancelled"][aria-current]`)
  assert.equal(await later.page.locator('[data-slot="call-cancel"]').isVisible(), false)
  await leave(later.page, later.faults)
})

test("a call that fails says why", LIMIT, async () => {
  const { page, faults } = await openPage(browser, server)
  await begin(page, "failing", "what I sent")
  await ended(page, "failed")
  await page.waitForFunction(() => document.querySelector('[data-slot="portions"]').textContent === "what I sent")
  assert.match(await page.textContent('[data-slot="call-why"]'), /^exit-status: /)
  assert.equal(await page.textContent('[data-slot="call-stderr"]'), "what went wrong\n")
  await leave(page, faults)
})

for (const [name, options] of Object.entries({
  calls: { colorScheme: "light" },
  "calls-dark": { colorScheme: "dark" },
  "calls-phone": { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2 },
})) {
  test(`it fits: ${name}`, LIMIT, async () => {
    const { page, faults } = await openPage(browser, server, options)
    await begin(page, "count", '{"year":2026}')
    await page.waitForFunction(() => document.querySelector('[data-slot="portions"]').textContent.includes('"n":3'))
    assert.ok(await page.$eval('[data-slot="call-view"]', (view) => view.getBoundingClientRect().top >= 0 && view.getBoundingClientRect().top < innerHeight), "it is in sight")
    const [wide, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth])
    assert.ok(wide <= screen, `${wide} px wide on a screen of ${screen}`)
    if (pictures) {
      await mkdir(pictures, { recursive: true })
      await page.screenshot({ path: `${pictures}/${name}.png` })
    }
    await ended(page, "finished")
    await leave(page, faults)
  })
}

async function begin(page, name, body) {
  const fold = page.locator(".side-fold")
  if (await fold.isVisible()) await fold.click()
  await page.waitForSelector('[data-slot="call-form"]:not([hidden])')
  await page.selectOption('[data-slot="call-form"] select', name)
  await page.fill('[data-slot="call-form"] textarea', body)
  await page.click('[data-slot="call-form"] button')
  await page.waitForFunction((name) => document.querySelector('[data-slot="call-name"]').textContent === name, name)
}

const ended = (page, outcome) => page.waitForSelector(`[data-slot="call-view"][data-state="${outcome}"]`)

async function leave(page, faults) {
  assert.deepEqual(faults, [])
  assert.deepEqual(await page.evaluate(() => window.breaches), [])
  await page.close()
}
