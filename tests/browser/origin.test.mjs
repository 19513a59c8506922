// Pages of other origins, with nothing but what a browser brings.
import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import http from "node:http"
import { after, before, test } from "node:test"

import { WAIT_MS, launch, openPage, untilReading } from "./browser.mjs"
import { Proxy } from "./proxy.mjs"

const server = process.env.FOURFOLD_URL?.replace(/\/$/, "")
const LIMIT = { timeout: 90_000 }

let browser
let elsewhere // a server of empty pages on another port, so another origin
before(async () => {
  assert.ok(server, "FOURFOLD_URL names a server that runs the demo")
  browser = await launch()
  elsewhere = http.createServer((_, answer) => answer.end("<!doctype html><link rel=icon href=data:,><title>elsewhere</title>"))
  await new Promise((listening) => elsewhere.listen(0, "127.0.0.1", listening))
})
after(async () => {
  await browser?.close()
  elsewhere?.closeAllConnections()
  elsewhere?.close()
})

const otherOrigin = () => openPage(browser, `http://127.0.0.1:${elsewhere.address().port}/`)

test("a native EventSource resumes by itself, whole, however often it is cut", LIMIT, async () => {
  const proxy = await Proxy.before(server)
  const { page } = await otherOrigin()
  await page.evaluate((url) => {
    window.numbers = []
    const source = new EventSource(url)
    source.addEventListener("data", ({ data }) => window.numbers.push(...JSON.parse(data).map(({ n }) => n)))
  }, `${proxy.url}/v1/stream/demo/vitals?live=sse&offset=now`)

  const cuts = 5
  for (let cut = 0; cut <= cuts; cut += 1) {
    const had = await page.evaluate(() => window.numbers.length)
    await page.waitForFunction((had) => window.numbers.length >= had + 4, had, { polling: 50 })
    if (cut < cuts) assert.ok(proxy.cut() > 0)
  }
  const numbers = await page.evaluate(() => window.numbers)
  assert.deepEqual(numbers, numbers.map((_, step) => numbers[0] + step))
  assert.ok(proxy.resumedFrom.length >= cuts, `${proxy.resumedFrom.length} resumptions`)
  await page.close()
  await proxy.close()
})

test("another origin may create, append, poll and listen", LIMIT, async () => {
  const { page, faults } = await otherOrigin()
  const url = `${server}/v1/stream/browser/${randomUUID()}`
  const got = await page.evaluate(async (url) => {
    const headers = { "Content-Type": "application/json" }
    const created = await fetch(url, { method: "PUT", headers })
    const appended = await fetch(url, { method: "POST", headers, body: '[{"n":1},{"n":2}]' })
    const first = await fetch(`${url}?offset=-1`)
    const records = await first.json()
    const next = first.headers.get("Stream-Next-Offset")
    const tail = await fetch(`${url}?offset=${next}`)
    const again = await fetch(`${url}?offset=${next}`, { headers: { "If-None-Match": tail.headers.get("ETag") } })
    const heard = await new Promise((resolve, reject) => {
      const source = new EventSource(`${url}?live=sse&offset=-1`)
      source.onerror = () => reject(new Error("the event stream was refused"))
      source.addEventListener("data", ({ data, lastEventId }) => {
        source.close()
        resolve({ records: JSON.parse(data), id: lastEventId })
      })
    })
    return {
      created: [created.status, created.headers.get("Location") !== null],
      appended: [appended.status, appended.headers.get("Stream-Next-Offset") === next],
      records,
      again: again.status,
      exposed: ["Stream-Next-Offset", "Stream-Up-To-Date", "Stream-Poll-After", "ETag"].filter((name) => tail.headers.has(name)),
      heard: { records: heard.records, upTo: heard.id === next },
    }
  }, url)
  assert.deepEqual(got, {
    created: [201, true],
    appended: [204, true],
    records: [{ n: 1 }, { n: 2 }],
    again: 304,
    exposed: ["Stream-Next-Offset", "Stream-Up-To-Date", "Stream-Poll-After", "ETag"],
    heard: { records: [{ n: 1 }, { n: 2 }], upTo: true },
  })
  assert.deepEqual(faults, [])
  await page.close()
})

test("the code that the page offers works as it stands", LIMIT, async () => {
  const { page: own } = await openPage(browser, server)
  await untilReading(own)
  // From the start, so that the one answer of a short poll has something in it.
  await own.click('[data-action="start"][data-offset="-1"]')
  await own.waitForFunction(() => document.querySelector('.code-card [data-slot="curl"]').textContent.includes("offset=-1"))
  const cards = await own.$$eval(".code-card", (all) =>
    all.map((card) => ({
      transport: card.dataset.transport,
      curl: card.querySelector('[data-slot="curl"]').textContent,
      script: card.querySelector('[data-slot="script"]').textContent,
    })),
  )
  assert.equal(cards.length, 4)
  for (const { transport, curl, script } of cards) {
    await shellSays(curl, '"load"')

    // A live stream goes on for ever: several outputs show that the script goes on, too.
    const { page, faults } = await otherOrigin()
    const lines = []
    const enough = new Promise((resolve) => page.on("console", async (message) => {
      // What is said while the page closes cannot be fetched any more.
      const values = await Promise.all(message.args().map((arg) => arg.jsonValue().catch(() => null)))
      lines.push(JSON.stringify(values))
      if (lines.filter((line) => line.includes('"load"')).length >= 3) resolve()
    }))
    // As in a console or a module: `await` at the top, and not waited for here.
    await page.evaluate((script) => void eval(`(async () => { ${script} })()`), script)
    await within(enough, `${transport}: ${script}\nsaid ${lines.length} lines`)
    assert.deepEqual(faults, [], transport)
    await page.close()
  }
  await own.close()
})

/** Runs a line of shell until its output holds the text. */
async function shellSays(line, text) {
  const shell = spawn("sh", ["-c", `exec ${line}`], { stdio: ["ignore", "pipe", "inherit"] })
  let said = ""
  const heard = new Promise((resolve, reject) => {
    shell.stdout.on("data", (bytes) => (said += bytes.toString("latin1")).includes(text) && resolve())
    shell.on("error", reject)
    shell.on("close", () => (said.includes(text) ? resolve() : reject(new Error(`${line}\nsaid: ${said.slice(0, 400)}`))))
  })
  try {
    await within(heard, line)
  } finally {
    shell.kill()
  }
}

function within(promise, what) {
  let timer
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`too late: ${what}`)), WAIT_MS)))
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}
