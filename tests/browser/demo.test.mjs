// The scenarios at /demo, on a server that runs the demo at FOURFOLD_URL.
import assert from "node:assert/strict"
import { mkdir } from "node:fs/promises"
import { after, before, test } from "node:test"

import { launch } from "./browser.mjs"

const server = process.env.FOURFOLD_URL?.replace(/\/$/, "")
const pictures = process.env.FOURFOLD_SCREENSHOTS
const LIMIT = { timeout: 240_000 }
const WAIT_MS = 60_000 // A transport is given up after 12 s of silence, and tried again after 5, 10, 20 s.

let browser
before(async () => {
  assert.ok(server, "FOURFOLD_URL names a server that runs the demo")
  browser = await launch()
})
after(() => browser?.close())

test("a task tells its progress, and goes on while its tab is closed", LIMIT, async () => {
  const { page, faults, visitor } = await visit()
  const { id, card } = await task(page, 6)
  await page.waitForFunction((card) => Number(document.querySelector(card)?.dataset.progress) > 0.2, card)
  await page.close()
  const again = await visitor.newPage()
  await open(again)
  await again.waitForFunction((card) => Number(document.querySelector(card)?.dataset.progress) > 0.2, card)
  await again.waitForSelector(`${card}[data-ended="finished"]`)
  await again.waitForFunction((card) => document.querySelector(card).dataset.progress === "1", card)
  await whole(again, "progress")
  await again.waitForFunction((id) => [...document.querySelectorAll(".notes p")].some((note) => note.textContent.includes(`Task ${id.slice(-6)} has packed 6 MB`)), id)
  assert.deepEqual(faults, [])
  await visitor.close()
})

test("a task is cancelled", LIMIT, async () => {
  const { page, faults, visitor } = await visit()
  const { card } = await task(page, 512)
  await page.waitForFunction((card) => Number(document.querySelector(card)?.dataset.progress) > 0, card)
  await page.click(`${card} button`)
  await page.waitForSelector(`${card}[data-ended="cancelled"]`)
  assert.equal(await page.locator(`${card} button`).isVisible(), false, "there is nothing left to cancel")
  await whole(page, "progress")
  assert.deepEqual(faults, [])
  await visitor.close()
})

test("a task beyond the maximum says so", LIMIT, async () => {
  const { page, visitor } = await visit()
  const running = await Promise.all([task(page, 512), task(page, 512)])
  await page.click("#progress .primary")
  await page.waitForFunction(() => document.querySelector('#progress [data-slot="answer"]').textContent.includes("run already"))
  for (const { card } of running) await page.click(`${card} button`)
  for (const { card } of running) await page.waitForSelector(`${card}[data-ended="cancelled"]`)
  await visitor.close()
})

for (const { name, faults, moves } of [
  { name: "a blocked WebSocket", faults: ["blockWebsocket"], moves: ["sse"] },
  { name: "a blocked WebSocket and a proxy that buffers", faults: ["blockWebsocket", "bufferSse"], moves: ["long-poll"] },
  { name: "cuts every three seconds", faults: ["cutEveryMs"], moves: ["sse", "long-poll", "short-poll"] },
  { name: "half a second of latency", faults: ["latencyMs"], moves: ["websocket"] },
]) {
  test(`${name}: the rates go on, and nothing is lost or doubled`, LIMIT, async () => {
    const { page, visitor } = await visit()
    await until(page, "rates", ["live"], ["websocket"])
    for (const fault of faults) await press(page, "rates", fault)
    await until(page, "rates", ["live"], moves)
    const { received } = await account(page, "rates")
    await more(page, "rates", received + 100)
    for (const fault of faults) await press(page, "rates", fault)
    await until(page, "rates", ["live"], ["websocket"]) // It climbs back.
    await whole(page, "rates")
    const carried = await page.getAttribute('#rates [data-slot="lanes"]', "data-carried")
    assert.ok(carried.includes("WebSocket"), carried)
    await visitor.close()
  })
}

test("offline and back: what was missed comes, once", LIMIT, async () => {
  const { page, visitor } = await visit()
  await until(page, "rates", ["live"], ["websocket"])
  await press(page, "rates", "offline")
  await until(page, "rates", ["waiting"])
  const { received } = await account(page, "rates")
  await page.waitForFunction((before) => Number(document.getElementById("rates").dataset.appended) > before + 60, received, { timeout: WAIT_MS })
  assert.equal((await account(page, "rates")).received, received, "nothing comes while it is offline")
  await press(page, "rates", "offline")
  await more(page, "rates", received + 100)
  await whole(page, "rates")
  await visitor.close()
})

test("two visitors talk, also over a bad network and a reload", LIMIT, async () => {
  const [heron, wren] = [await visit(), await visit()]
  const tag = Math.random().toString(36).slice(2)
  await say(heron.page, `${tag} one`)
  await said(wren.page, `${tag} one`)
  await press(wren.page, "chat", "offline")
  await until(wren.page, "chat", ["waiting", "connecting"])
  await say(heron.page, `${tag} two`)
  await say(wren.page, `${tag} three`)
  assert.equal(await wren.page.locator(".log .pending").count(), 1)
  await press(wren.page, "chat", "offline")
  await said(wren.page, `${tag} two`)
  await said(heron.page, `${tag} three`)
  await wren.page.waitForFunction(() => !document.querySelector(".log .pending"), null, { timeout: WAIT_MS })
  const before = await texts(wren.page, tag)
  assert.deepEqual(before.toSorted(), [`${tag} one`, `${tag} three`, `${tag} two`])
  assert.deepEqual(await texts(heron.page, tag), before, "both see one order")
  await wren.page.reload()
  await ready(wren.page)
  await say(heron.page, `${tag} four`)
  await said(wren.page, `${tag} four`)
  assert.deepEqual(await texts(wren.page, tag), [...before, `${tag} four`])
  for (const { page, visitor } of [heron, wren]) {
    await whole(page, "chat")
    await visitor.close()
  }
})

test("two tabs agree on what is unread", LIMIT, async () => {
  const { page, faults, visitor } = await visit()
  const other = await visitor.newPage()
  await open(other)
  const unread = (tab) => tab.getAttribute('[data-slot="bell"]', "data-unread")
  const agreed = (count) => Promise.all([page, other].map((tab) => tab.waitForFunction((count) => document.querySelector(".bell").dataset.unread === count, String(count), { timeout: WAIT_MS })))
  await page.click('[data-slot="read"]:enabled', { timeout: 1_000 }).catch(() => {}) // Other tests write, too.
  const before = Number(await unread(page))
  await page.click('[data-slot="passer"]')
  await page.waitForFunction((before) => Number(document.querySelector(".bell").dataset.unread) > before, before, { timeout: WAIT_MS })
  await other.waitForFunction((before) => Number(document.querySelector(".bell").dataset.unread) > before, before, { timeout: WAIT_MS })
  await other.click('[data-slot="read"]')
  await agreed(0)
  await page.reload()
  await ready(page)
  await agreed(0)
  await whole(page, "notices")
  assert.deepEqual(faults, [])
  await visitor.close()
})

for (const [name, options] of [
  ["demo", { viewport: { width: 1400, height: 1000 } }],
  ["demo-dark", { viewport: { width: 1400, height: 1000 }, colorScheme: "dark" }],
  ["demo-phone", { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2 }],
]) {
  test(`it fits: ${name}`, LIMIT, async () => {
    const { page, visitor } = await visit(options)
    await more(page, "rates", 40)
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)
    assert.equal(wide, 0, "nothing sticks out")
    assert.deepEqual(await page.evaluate(() => [...document.querySelectorAll("button, input, select")].filter((it) => !(it.labels?.length || it.textContent.trim())).length), 0, "everything has a name")
    if (pictures) {
      await mkdir(pictures, { recursive: true })
      await page.screenshot({ path: `${pictures}/${name}.png`, fullPage: true })
    }
    await visitor.close()
  })
}

/** A visitor with storage of his own, and the demo in front of him. */
async function visit(options = { viewport: { width: 1400, height: 1000 } }) {
  const visitor = await browser.newContext(options)
  const page = await visitor.newPage()
  const faults = []
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()))
  page.on("pageerror", (error) => faults.push(String(error)))
  await open(page)
  return { page, faults, visitor }
}

/** A task of so many megabytes: its id, and where the page shows it. */
async function task(page, megabytes) {
  const id = await page.evaluate(async (megabytes) => {
    const headers = { "Content-Type": "application/json" }
    const answer = await fetch("/v1/call/demo-pack", { method: "POST", headers, body: JSON.stringify({ megabytes }) })
    return answer.headers.get("Call-Id")
  }, megabytes)
  assert.ok(id, "it was begun")
  return { id, card: `[data-task="${id}"]` }
}

async function open(page) {
  page.setDefaultTimeout(WAIT_MS)
  await page.goto(`${server}/demo`)
  await ready(page)
}

const ready = (page) => page.waitForSelector("html[data-ready]", { state: "attached" })

const press = async (page, panel, fault) => {
  const button = page.locator(`#${panel} [data-fault="${fault}"]`)
  const pressed = await button.getAttribute("aria-pressed")
  await button.click()
  await page.waitForFunction(
    ([panel, fault, pressed]) => document.querySelector(`#${panel} [data-fault="${fault}"]`).getAttribute("aria-pressed") !== pressed,
    [panel, fault, pressed],
  )
}

const until = (page, panel, states, transports) =>
  page.waitForFunction(
    ([panel, states, transports]) => {
      const { state, transport } = document.getElementById(panel).dataset
      return states.includes(state) && (!transports || transports.includes(transport))
    },
    [panel, states, transports],
    { timeout: WAIT_MS, polling: 50 },
  )

const account = (page, panel) =>
  page.$eval(`#${panel}`, ({ dataset }) => Object.fromEntries(["received", "appended", "lost", "doubled"].map((name) => [name, Number(dataset[name])])))

const more = (page, panel, count) =>
  page.waitForFunction(([panel, count]) => Number(document.getElementById(panel).dataset.received) >= count, [panel, count], { timeout: WAIT_MS })

/** What the witness has seen until now comes, and none of it was lost or came twice. */
async function whole(page, panel) {
  // It looks once a second: what the client has delivered already may be news to it.
  await page.waitForFunction((panel) => Number(document.getElementById(panel).dataset.appended) > 0, panel, { timeout: WAIT_MS })
  const { appended } = await account(page, panel)
  await more(page, panel, appended)
  const { lost, doubled } = await account(page, panel)
  assert.deepEqual({ lost, doubled }, { lost: 0, doubled: 0 })
}

async function say(page, text) {
  await page.fill("#say-text", text)
  await page.click("#chat .say button")
}

const said = (page, text) =>
  page.waitForFunction((text) => [...document.querySelectorAll(".log li:not(.pending) p")].some((line) => line.textContent === text), text, { timeout: WAIT_MS })

const texts = (page, tag) => page.$$eval(".log p", (lines, tag) => lines.map((line) => line.textContent).filter((text) => text.startsWith(tag)), tag)
