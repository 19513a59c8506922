import assert from "node:assert/strict"
import { test } from "node:test"
import { writer } from "../dist/fourfold.js"
import { browse, followIn, received } from "./browser.mjs"
import { records, serve, wayTo } from "./server.mjs"

const numbers = (count) => [...Array(count).keys()]

/** Appends a number every few milliseconds until stopped; then tells how many. */
function counting(url) {
  const appends = writer(url, { contentType: "application/json" })
  let n = 0
  let on = true
  const done = (async () => {
    while (on) {
      await appends.append(n++)
      await new Promise((over) => setTimeout(over, 10))
    }
    return n
  })()
  return { stop: () => ((on = false), done) }
}

async function scene(t) {
  const server = await serve(t)
  const url = await server.create("a")
  const way = await wayTo(t, server.url)
  const { tab } = await browse(t)
  const sockets = () => way.requests.filter((head) => /upgrade: websocket/i.test(head)).length
  return { url, via: way.url(url), tab, way, sockets }
}

test("one tab holds the connection, the others are fed, from wherever they start", async (t) => {
  const { url, via, tab, sockets } = await scene(t)
  const one = await tab()
  await followIn(one, via)
  const appends = writer(url)
  await Promise.all(numbers(10).map((n) => appends.append(n)))
  await received(one, 10)
  const two = await tab()
  const three = await tab()
  await followIn(two, via)
  await followIn(three, via, { offset: "now" })
  await received(two, 10)
  await three.waitForFunction(() => window.following.state.name === "live")
  for (const n of numbers(10)) await appends.append(10 + n)
  assert.deepEqual(await received(one, 20), numbers(20))
  assert.deepEqual(await received(two, 20), numbers(20))
  assert.deepEqual(await received(three, 10), numbers(20).slice(10))
  assert.equal(sockets(), 1)
  await appends.close()
  for (const page of [one, two, three]) await page.waitForFunction(() => window.following.state.name === "closed")
})

test("when the tab that reads is closed another takes over, and nothing is lost or doubled", async (t) => {
  const { url, via, tab, sockets } = await scene(t)
  const pages = []
  for (const _ of numbers(3)) {
    const page = await tab()
    await followIn(page, via)
    pages.push(page)
  }
  const count = counting(url)
  await received(pages[2], 30)
  await pages[0].close()
  const reached = await pages[2].evaluate(() => window.got.length)
  await received(pages[2], reached + 50)
  await pages[1].close()
  await received(pages[2], reached + 100)
  const total = await count.stop()
  assert.deepEqual(await received(pages[2], total), numbers(total))
  assert.equal(sockets(), 3)
})

test("a tab that stops following hands over, too", async (t) => {
  const { url, via, tab } = await scene(t)
  const [one, two] = [await tab(), await tab()]
  await followIn(one, via)
  await followIn(two, via)
  const count = counting(url)
  await received(two, 20)
  await one.evaluate(() => window.following.stop())
  const reached = await two.evaluate(() => window.got.length)
  await received(two, reached + 50)
  const total = await count.stop()
  assert.deepEqual(await received(two, total), numbers(total))
})

test("a frozen tab does not hold up the others, and goes on where it was when it thaws", async (t) => {
  const { url, via, tab } = await scene(t)
  const one = await tab()
  await followIn(one, via)
  const two = await tab()
  await followIn(two, via)
  const count = counting(url)
  await received(two, 20)
  const devtools = await one.context().newCDPSession(one)
  await devtools.send("Page.setWebLifecycleState", { state: "frozen" })
  const reached = await two.evaluate(() => window.got.length)
  await received(two, reached + 200)
  await devtools.send("Page.setWebLifecycleState", { state: "active" })
  const later = await two.evaluate(() => window.got.length)
  await received(two, later + 100)
  const total = await count.stop()
  assert.deepEqual(await received(two, total), numbers(total))
  assert.deepEqual(await received(one, total), numbers(total))
})

test("a page that was left and is gone back to goes on", async (t) => {
  const { url, via, tab } = await scene(t)
  const one = await tab()
  await followIn(one, via, { remember: "place" })
  const two = await tab()
  await followIn(two, via)
  const count = counting(url)
  await received(one, 20)
  await one.goto("about:blank")
  const reached = await two.evaluate(() => window.got.length)
  await received(two, reached + 50)
  await one.goBack()
  // Kept for going back, it goes on as it was; else it is a new page, which has its offset.
  const isNew = await one.evaluate(() => !window.got)
  if (isNew) await followIn(one, via, { remember: "place" })
  const total = await count.stop()
  assert.deepEqual(await received(two, total), numbers(total))
  await one.waitForFunction((last) => window.got.at(-1) === last, total - 1)
  const got = await one.evaluate(() => window.got)
  assert.deepEqual(got, numbers(total).slice(got[0]))
})

test("streams with a token are not shared with tabs that may have another", async (t) => {
  const { url, via, tab, sockets } = await scene(t)
  for (const _ of numbers(2)) {
    const page = await tab()
    await page.evaluate((url) => {
      window.got = []
      fourfold.follow(url, { token: () => "secret", onRecord: (record) => window.got.push(record) })
    }, via)
    await writer(url).append(1)
    await received(page, 1)
  }
  assert.equal(sockets(), 2)
})

test("a writer appends over the socket that a reader of its page holds, else by POST", async (t) => {
  const { url, via, tab, way } = await scene(t)
  const one = await tab()
  await followIn(one, via)
  await one.waitForFunction(() => window.following.state.name === "live")
  const two = await tab()
  for (const page of [one, two]) {
    const offset = await page.evaluate((url) => {
      window.appends = fourfold.writer(url, { contentType: "application/json" })
      return Promise.all([1, 2, 3].map((n) => window.appends.append(n))).then((all) => all.at(-1))
    }, via)
    assert.match(offset, /_/)
  }
  assert.equal(way.requests.filter((head) => head.startsWith("POST")).length, 1)
  assert.deepEqual(await received(one, 6), [1, 2, 3, 1, 2, 3])
})

test("appends under way when the socket is cut are there once, and in order", async (t) => {
  const { via, tab, way } = await scene(t)
  const page = await tab()
  await followIn(page, via)
  await page.waitForFunction(() => window.following.state.name === "live")
  const cutting = setInterval(() => way.cut(), 300)
  t.after(() => clearInterval(cutting))
  const all = page.evaluate(async (url) => {
    const appends = fourfold.writer(url, { contentType: "application/json" })
    const done = []
    for (let n = 0; n < 300; n++) {
      done.push(appends.append(n))
      await new Promise((over) => setTimeout(over, 10))
    }
    await Promise.all(done)
  }, via)
  await all
  clearInterval(cutting)
  assert.deepEqual(await received(page, 300), numbers(300))
})

test("a socket that swallows appends is left for POST, and what it brings later after all is a duplicate", async (t) => {
  const { url, via, tab, way } = await scene(t)
  const page = await tab()
  await followIn(page, via)
  await page.waitForFunction(() => window.following.state.name === "live")
  const append = (n) => page.evaluate((n) => window.appends.append(n), n)
  await page.evaluate((url) => (window.appends = fourfold.writer(url, { contentType: "application/json" })), via)
  await append(0)
  way.held = []
  await Promise.all([append(1), append(2)])
  await append(3)
  const late = way.held.splice(0)
  way.held = null
  assert.ok(late.length > 0)
  for (const send of late) send()
  await append(4)
  assert.deepEqual(await received(page, 5), numbers(5))
  assert.deepEqual(await records(url), numbers(5))
})

test("an append made offline goes when the network is back", async (t) => {
  const { url, via, tab } = await scene(t)
  const page = await tab()
  await page.evaluate((url) => (window.appends = fourfold.writer(url, { contentType: "application/json" })), via)
  await page.evaluate(() => window.appends.append(0))
  await page.context().setOffline(true)
  const done = page.evaluate(() => Promise.all([1, 2].map((n) => window.appends.append(n))))
  await page.waitForFunction(() => window.appends.pending === 2)
  await page.context().setOffline(false)
  await done
  assert.deepEqual(await records(url), [0, 1, 2])
})
