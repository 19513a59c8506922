// The client in a real browser: tabs, reloads, the six connections of HTTP/1.1, the browser's own offline, the hostile proxy.
import assert from "node:assert/strict"
import { after, before, test } from "node:test"

import { DirectWriter } from "./append.mjs"
import { FAULTS } from "./faults.mjs"
import { launch, open, serve, untilEnded, untilHas } from "./page.mjs"
import { Proxy } from "./proxy.mjs"
import { Random } from "./random.mjs"
import { difference, SORTS } from "./records.mjs"
import { Climbs, Schedule } from "./schedule.mjs"
import { eachSeed, SECONDS } from "./seeds.mjs"
import { Server } from "./server.mjs"

const LIMIT = { timeout: 150_000 }
const SEEDS = 2

let browser
before(async () => (browser = await launch()))
after(() => browser?.close())

/** A server, a proxy with the page, a context of its own and a writer; all ended behind `work`. */
async function stage(work, { streams = 1, sort = SORTS.json, in: where = browser } = {}) {
  const server = await Server.start()
  const proxy = await Proxy.before(server.url)
  const context = await where.newContext()
  serve(proxy)
  try {
    const paths = Array.from({ length: streams }, (_, number) => `/v1/stream/browser/${number}`)
    const writers = paths.map((path, number) => new DirectWriter(server.url + path, sort, new Random(number, "browser")))
    for (const path of paths) await DirectWriter.create(server.url + path, sort)
    return await work({ server, proxy, context, paths, writers, path: paths[0], writer: writers[0] })
  } finally {
    await context.close()
    await proxy.close()
    await server.stop()
  }
}

async function appends(writer, count) {
  for (const until = writer.acked.length + count; writer.acked.length < until; ) await writer.append()
}

async function assertWhole(page, name, writer, sort) {
  const { received, states, ended } = await untilEnded(page, name, sort)
  assert.equal(ended, "whole", `${name}: ${states.slice(-8)}`)
  assert.equal(difference(writer.acked, received, [0, 0]), null, `${name}: ${states.slice(-8)}`)
  return states
}

const STORMS = "followers in a page receive exactly what was acknowledged"
test(STORMS, LIMIT, () =>
  eachSeed(STORMS, "browser.test.mjs", SEEDS, (seed) =>
    stage(async ({ server, proxy, context, path, writer }) => {
      const page = await open(context, proxy)
      const other = await open(context, proxy)
      const weather = new Schedule(seed, SECONDS * 1_000)
      await page.evaluate((path) => {
        window.reads("tabs", path)
        window.reads("own", path, { share: false })
        window.reads("polls", path, { share: false, transports: ["long-poll", "short-poll"] })
      }, path)
      await other.evaluate((path) => window.reads("tabs", path), path)
      const over = new AbortController()
      const writing = writer.appendUntil(over.signal)
      await weather.pass(proxy, server)
      over.abort()
      await writing
      await writer.close()
      const faults = []
      for (const [at, name] of [[page, "tabs"], [page, "own"], [page, "polls"], [other, "tabs"]]) {
        const { received, ended, states } = await untilEnded(at, name)
        const wrong = difference(writer.acked, received, [0, 0])
        if (ended !== "whole" || wrong) faults.push(`${name}: ${ended}; ${wrong}; ${states.slice(-10)}`)
      }
      const figures = { seed, records: writer.acked.length, kills: server.kills, ...proxy.counts }
      return { faults, figures, log: proxy.log }
    }),
  ),
)

const CLIMBERS = "followers in a page that fall and climb back lose nothing"
test(CLIMBERS, LIMIT, () =>
  eachSeed(CLIMBERS, "browser.test.mjs", SEEDS, (seed) =>
    stage(async ({ proxy, context, path, writer }) => {
      const page = await open(context, proxy)
      const names = ["all", "http", "polls"]
      await page.evaluate((path) => {
        window.reads("all", path)
        window.reads("http", path, { share: false, transports: ["sse", "long-poll", "short-poll"] })
        window.reads("polls", path, { share: false, transports: ["sse", "short-poll"] })
      }, path)
      const over = new AbortController()
      const writing = writer.appendUntil(over.signal, 2)
      await new Climbs(seed, 9_000).pass(proxy)
      over.abort()
      await writing
      await writer.close()
      const faults = []
      for (const name of names) {
        const { received, ended, states } = await untilEnded(page, name)
        const wrong = difference(writer.acked, received, [0, 0])
        if (ended !== "whole" || wrong) faults.push(`${name}: ${ended}; ${wrong}; ${states.slice(-10)}`)
      }
      return { faults, figures: { seed, records: writer.acked.length, ...proxy.counts }, log: proxy.log }
    }),
  ),
)

for (const name of ["text", "binary"]) {
  test(`a ${name} stream comes whole over every transport`, LIMIT, () =>
    stage(
      async ({ proxy, context, path, writer }) => {
        const page = await open(context, proxy)
        const ways = ["websocket", "sse", "long-poll", "short-poll"]
        const reads = ([path, ways]) => ways.forEach((way) => window.reads(way, path, { transports: [way], share: false }))
        await page.evaluate(reads, [path, ways])
        await appends(writer, 60)
        await writer.close()
        for (const way of ways) await assertWhole(page, way, writer, SORTS[name])
      },
      { sort: SORTS[name] },
    ))
}

test("a tab that is closed hands over to another without loss", LIMIT, () =>
  stage(async ({ proxy, context, path, writer }) => {
    const tabs = [await open(context, proxy), await open(context, proxy), await open(context, proxy)]
    for (const tab of tabs) await tab.evaluate((path) => window.reads("shared", path), path)
    await appends(writer, 30)
    for (const tab of tabs) await untilHas(tab, "shared", 30)
    // The first one, which reads for all where tabs are shared, then the next.
    for (let closed = 0; closed < 2; closed += 1) {
      const over = new AbortController()
      const writing = writer.appendUntil(over.signal)
      await tabs.shift().close()
      over.abort()
      await writing
      await appends(writer, 10)
      for (const tab of tabs) await untilHas(tab, "shared", writer.acked.length)
    }
    await writer.close()
    await assertWhole(tabs[0], "shared", writer)
  }))

test("a page that is loaded again goes on where it was", LIMIT, () =>
  stage(async ({ proxy, context, path, writer }) => {
    const page = await open(context, proxy)
    // What is done with a record is kept by the page itself, over its reloads.
    const keeps = (path) => {
      const keep = (window.keep = { ended: false })
      ;(async () => {
        for await (const record of window.client.follow(location.origin + path, { remember: "place" })) {
          localStorage.setItem("seen", (localStorage.getItem("seen") ?? "") + JSON.stringify(record) + "\n")
        }
        keep.ended = true
      })()
    }
    const seen = () => page.evaluate(() => (localStorage.getItem("seen") ?? "").split("\n").slice(0, -1))
    await page.evaluate(keeps, path)
    for (let reload = 0; reload < 5; reload += 1) {
      const over = new AbortController()
      const writing = writer.appendUntil(over.signal, 5)
      const before = (await seen()).length
      await page.waitForFunction((count) => localStorage.getItem("seen")?.split("\n").length > count, before + 20, { polling: 30 })
      await page.reload()
      await page.waitForFunction(() => window.ready)
      await page.evaluate(keeps, path)
      over.abort()
      await writing
    }
    await writer.close()
    await page.waitForFunction(() => window.keep.ended, null, { polling: 30 })
    assert.equal(difference(writer.acked, (await seen()).map((one) => SORTS.json.comparable(JSON.parse(one))), [0, 0]), null)
  }))

test("ten streams over HTTP/1.1 without WebSocket do not freeze a page", LIMIT, () =>
  stage(
    async ({ proxy, context, paths, writers }) => {
      proxy.choose = (exchange) => (exchange.kind === "websocket" ? FAULTS["upgrade refused with 400"].make(new Random(1)) : null)
      const page = await open(context, proxy)
      await page.evaluate((paths) => paths.forEach((path) => window.reads(path, path)), paths)
      for (let round = 0; round < 5; round += 1) {
        for (const writer of writers) await appends(writer, 5)
        // Were all connections held, this would wait for one of them to end, which none does.
        const answers = () => Promise.all([1, 2, 3].map(() => fetch("/ping").then((answer) => answer.text())))
        assert.deepEqual(await page.evaluate(answers), ["pong", "pong", "pong"])
        for (const [number, path] of paths.entries()) await untilHas(page, path, writers[number].acked.length)
      }
      const other = await open(context, proxy)
      await other.evaluate((paths) => paths.forEach((path) => window.reads(path, path)), paths)
      for (const [number, path] of paths.entries()) await untilHas(other, path, writers[number].acked.length)
      for (const writer of writers) await appends(writer, 5)
      for (const writer of writers) await writer.close()
      for (const at of [page, other]) {
        for (const [number, path] of paths.entries()) await assertWhole(at, path, writers[number])
      }
    },
    { streams: 10 },
  ))

test("a browser that is offline for a while loses nothing", LIMIT, () =>
  stage(async ({ proxy, context, path, writer }) => {
    const page = await open(context, proxy)
    const reads = (path) => {
      window.reads("any", path)
      window.reads("http", path, { transports: ["sse", "long-poll", "short-poll"], share: false })
    }
    await page.evaluate(reads, path)
    for (let turn = 0; turn < 3; turn += 1) {
      await appends(writer, 20)
      for (const name of ["any", "http"]) await untilHas(page, name, writer.acked.length)
      await context.setOffline(true)
      proxy.cut() // What a browser emulates leaves open connections as they are; a network that is gone does not.
      await appends(writer, 20)
      await page.waitForFunction(() => window.got.http.following.state.name === "waiting", null, { polling: 30 })
      await context.setOffline(false)
    }
    await writer.close()
    for (const name of ["any", "http"]) await assertWhole(page, name, writer)
  }))

test("a page that was put aside and is shown again loses nothing", LIMIT, async (t) => {
  const keeping = await launch({ bfcache: true })
  const kept = await stage(
    async ({ proxy, context, path, writer }) => {
      const note = () => addEventListener("pageshow", (event) => (window.kept = event.persisted))
      const page = await open(context, proxy, note)
      await page.evaluate((path) => window.reads("any", path), path)
      await appends(writer, 20)
      await untilHas(page, "any", 20)
      await page.goto(`${proxy.url}/elsewhere`)
      await appends(writer, 20)
      await page.goBack({ waitUntil: "commit" }) // A kept page is not loaded: there is no more to wait for.
      await page.waitForFunction(() => window.ready)
      const kept = await page.evaluate(() => Boolean(window.kept && window.got?.any))
      if (!kept) return false
      await appends(writer, 20)
      await writer.close()
      await assertWhole(page, "any", writer)
      return true
    },
    { in: keeping },
  ).finally(() => keeping.close())
  if (!kept) t.skip("this browser does not keep the page")
})
