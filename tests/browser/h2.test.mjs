// HTTP/2 in a real browser: a page follows more streams than HTTP/1.1 has connections for, on one connection. Starts its own server, which speaks TLS.
import assert from "node:assert/strict"
import { execFileSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, test } from "node:test"

import { launch, openPage, serve } from "./browser.mjs"

const STREAMS = 20
const LIMIT = { timeout: 90_000 }

let browser, server, url, folder
before(async () => {
  folder = mkdtempSync(join(tmpdir(), "fourfold-h2-"))
  const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")]
  const wanted = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost".split(" ")
  execFileSync("openssl", [...wanted, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert], { stdio: "ignore" })
  ;({ server, url } = await serve(["--data-dir", join(folder, "data"), "--tls-cert", cert, "--tls-key", key]))
  browser = await launch()
})
after(async () => {
  await browser?.close()
  server?.kill()
  rmSync(folder, { recursive: true, force: true })
})

test("a page follows 20 streams at once over one connection", LIMIT, async () => {
  const { page, faults } = await openPage(browser, `${url}/`, { ignoreHTTPSErrors: true })
  const carried = await requestsCarried(page)
  const names = Array.from({ length: STREAMS }, (_, n) => `/v1/stream/h2/${n}`)
  await page.evaluate(async (names) => {
    const type = { "content-type": "text/plain" }
    await Promise.all(names.map((name) => fetch(name, { method: "PUT", headers: type })))
    window.sources = names.map((name) => new EventSource(`${name}?offset=-1&live=sse`))
    window.heard = window.sources.map((source) => new Promise((resolve) => source.addEventListener("data", ({ data }) => resolve(data))))
    await Promise.all(window.sources.map((source) => new Promise((resolve) => (source.onopen = resolve))))
  }, names)
  // All of them are open now, which six connections could not be.
  const heard = await page.evaluate(async (names) => {
    const type = { "content-type": "text/plain" }
    await Promise.all(names.map((name) => fetch(name, { method: "POST", headers: type, body: `record of ${name}` })))
    return Promise.all(window.heard)
  }, names)
  assert.deepEqual(heard, names.map((name) => `record of ${name}`))
  await page.evaluate(() => window.sources.forEach((source) => source.close()))
  const ours = carried.filter(({ path }) => path.startsWith("/v1/stream/h2/"))
  const readers = ours.filter(({ type, path }) => type === "EventSource" && path.endsWith("?offset=-1&live=sse"))
  assert.equal(new Set(readers.map(({ path }) => path)).size, STREAMS)
  assert.deepEqual([...new Set(ours.map(({ protocol }) => protocol))], ["h2"])
  assert.equal(new Set(ours.map(({ connection }) => connection)).size, 1, "appends and readers share one connection")
  assert.deepEqual(faults, [])
  await page.close()
})

test("beside them a WebSocket has a connection of its own", LIMIT, async () => {
  const { page } = await openPage(browser, `${url}/`, { ignoreHTTPSErrors: true })
  const greeting = await page.evaluate(async (url) => {
    await fetch("/v1/stream/beside", { method: "PUT", headers: { "content-type": "text/plain" } })
    const socket = new WebSocket(`${url.replace("https:", "wss:")}/v1/stream/beside?offset=-1`)
    return new Promise((resolve, reject) => {
      socket.onmessage = ({ data }) => resolve(JSON.parse(data))
      socket.onerror = () => reject(new Error("it does not open"))
    })
  }, url)
  assert.equal(greeting.upToDate, true)
  await page.close()
})

/**
 * Which connection carries each request of the page from now on, as the browser tells it. Connections are not counted from outside: the page has a panel
 * that opens a WebSocket, which has one of its own, as soon as it finds a stream.
 */
async function requestsCarried(page) {
  const carried = []
  const session = await page.context().newCDPSession(page)
  session.on("Network.responseReceived", ({ type, response }) => {
    const { pathname, search } = new URL(response.url)
    carried.push({ type, path: pathname + search, connection: response.connectionId, protocol: response.protocol })
  })
  await session.send("Network.enable")
  return carried
}
