// Pages that follow streams in a real browser, through the proxy that also serves them; what they have received, told here.
import { readFileSync } from "node:fs"
import { chromium } from "playwright-core"

import { clientPath } from "./client.mjs"
import { portalPage } from "./faults.mjs"
import { SORTS } from "./records.mjs"

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
const END_MS = 60_000 // From the last fault to the end of an iteration, at most.

const BODY = `<!doctype html><meta charset="utf-8"><title>follows</title>
<script type="module">
  import * as client from "/client.js"
  window.client = client
  window.got = {}
  // Comparable forms, so that what crosses to the test is plain text.
  window.reads = (name, path, options = {}) => {
    const it = (window.got[name] = { records: [], states: [], ended: null })
    it.following = client.follow(location.origin + path, options)
    it.following.on("state", (state) => it.states.push(state.transport ? state.name + " " + state.transport : state.name))
    ;(async () => {
      for await (const record of it.following) it.records.push(JSON.stringify(record))
    })().then(() => (it.ended = "whole"), (error) => (it.ended = String(error && error.stack || error)))
  }
  window.ready = true
</script>`

/** `bfcache`: pages may be kept when they are left, which automated browsers do not do by themselves. */
export function launch({ bfcache = false } = {}) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: FLAGS,
    ...(bfcache && { ignoreDefaultArgs: ["--disable-back-forward-cache"] }),
  })
}

/** Lets the proxy serve the page, the client and something small. */
export function serve(proxy) {
  proxy.pages.set("/page", { type: "text/html; charset=utf-8", body: BODY })
  proxy.pages.set("/client.js", { type: "text/javascript; charset=utf-8", body: readFileSync(clientPath) })
  proxy.pages.set("/ping", { type: "text/plain", body: "pong" })
  proxy.pages.set("/elsewhere", { type: "text/html", body: "<!doctype html><title>elsewhere</title>" })
  proxy.pages.set("/portal", portalPage)
}

/** A page that is ready to follow. `init` runs in it before anything else. */
export async function open(context, proxy, init, argument) {
  const page = await context.newPage()
  page.setDefaultTimeout(END_MS)
  if (init) await page.addInitScript(init, argument)
  await page.goto(`${proxy.url}/page`)
  await page.waitForFunction(() => window.ready)
  return page
}

/** Waits until the reading of this name has so many records. */
export function untilHas(page, name, count) {
  return page.waitForFunction(([name, count]) => window.got[name]?.records.length >= count, [name, count], { polling: 30 })
}

/** Waits until the reading has ended by itself; resolves with what it received, comparable, and its states. */
export async function untilEnded(page, name, sort = SORTS.json) {
  await page.waitForFunction((name) => window.got[name].ended !== null, name, { polling: 30 }).catch(() => {})
  const { records, states, ended } = await page.evaluate((name) => {
    const { records, states, ended } = window.got[name]
    return { records, states, ended }
  }, name)
  return { received: records.map((record) => sort.comparable(JSON.parse(record))), states, ended }
}
