// What old browsers and locked-down places leave: the client delivers everything without any one of these, and without all.
import assert from "node:assert/strict"
import { after, before, describe, test } from "node:test"

import { DirectWriter } from "./append.mjs"
import { FAULTS } from "./faults.mjs"
import { launch, open, serve, untilEnded, untilHas } from "./page.mjs"
import { Proxy } from "./proxy.mjs"
import { Random } from "./random.mjs"
import { difference, SORTS } from "./records.mjs"
import { Server } from "./server.mjs"

const LIMIT = { timeout: 120_000 }
const RECORDS = 40

// Of each: what is taken away, by its name in the page; and a transport that it leaves, or leaves no more.
const WITHOUT = {
  "nothing taken away": { globals: [], carries: "websocket" },
  "WebSocket": { globals: ["WebSocket"], not: "websocket" },
  "EventSource": { globals: ["EventSource"] },
  "WebSocket and EventSource": { globals: ["WebSocket", "EventSource"], carries: "sse" },
  "fetch": { globals: ["fetch"] },
  "WebSocket and fetch": { globals: ["WebSocket", "fetch"], carries: "sse" },
  "ReadableStream": { globals: ["ReadableStream"] },
  "WebSocket and ReadableStream": { globals: ["WebSocket", "ReadableStream"], carries: "sse" },
  "WebSocket, EventSource and fetch": { globals: ["WebSocket", "EventSource", "fetch"], carries: "long-poll", not: "sse" },
  "WebSocket, EventSource and ReadableStream": { globals: ["WebSocket", "EventSource", "ReadableStream"], carries: "long-poll" },
  "AbortController": { globals: ["AbortController", "AbortSignal"] },
  "WebSocket and AbortController": { globals: ["WebSocket", "AbortController", "AbortSignal"] },
  "TextDecoder": { globals: ["TextDecoder", "TextEncoder"] },
  "WebSocket and TextDecoder": { globals: ["WebSocket", "TextDecoder", "TextEncoder"] },
  "BroadcastChannel": { globals: ["BroadcastChannel"] },
  "navigator.locks": { globals: ["navigator.locks"] },
  "navigator.locks and WebSocket": { globals: ["navigator.locks", "WebSocket"] },
  "localStorage and sessionStorage": { globals: ["localStorage", "sessionStorage"] },
  "storage that throws": { globals: [], throws: ["localStorage", "sessionStorage"] },
  "a WebSocket constructor that throws": { globals: [], throws: ["new WebSocket"], not: "websocket" },
  "all of them": {
    globals: [
      ...["WebSocket", "EventSource", "fetch", "ReadableStream", "BroadcastChannel", "navigator.locks", "AbortController"],
      ...["AbortSignal", "TextDecoder", "TextEncoder", "localStorage", "sessionStorage", "crypto", "WeakRef", "structuredClone"],
    ],
    carries: "long-poll",
    not: "sse",
  },
}

let browser, server
before(async () => {
  server = await Server.start()
  browser = await launch()
})
after(async () => {
  await browser?.close()
  await server?.stop()
})

// In the page, before the client.
function takeAway({ globals, throws = [] }) {
  for (const name of globals) {
    const [holder, key] = name.startsWith("navigator.") ? [navigator, name.slice(10)] : [window, name]
    for (let at = holder; at; at = Object.getPrototypeOf(at)) delete at[key]
    if (key in holder) Object.defineProperty(holder, key, { value: undefined })
  }
  const refuse = () => {
    throw new DOMException("not here", "SecurityError")
  }
  for (const name of throws) {
    if (name.startsWith("new ")) window[name.slice(4)] = refuse
    else Object.defineProperty(window, name, { get: refuse })
  }
}

describe("without", { concurrency: 3 }, () => {
  for (const [name, without] of Object.entries(WITHOUT)) {
    test(name, LIMIT, async () => {
      const proxy = await Proxy.before(server.url)
      serve(proxy)
      const context = await browser.newContext()
      try {
        await delivers(name, without, proxy, context)
      } finally {
        await context.close()
        await proxy.close()
      }
    })
  }
})

async function delivers(name, without, proxy, context) {
  const path = `/v1/stream/without/${encodeURIComponent(name)}`
  await DirectWriter.create(server.url + path, SORTS.json)
  const writer = new DirectWriter(server.url + path, SORTS.json, new Random(1, name))
  const page = await open(context, proxy, takeAway, without)
  const left = (names) => names.filter((name) => typeof (name === "navigator.locks" ? navigator.locks : window[name]) !== "undefined")
  assert.deepEqual(await page.evaluate(left, without.globals), [], "taken away")
  await page.evaluate((path) => window.reads("it", path), path)
  const seen = async () => {
    while (writer.acked.length % RECORDS !== 0 || writer.acked.length === 0) await writer.append(1)
    await untilHas(page, "it", writer.acked.length)
  }
  await seen()
  proxy.strike(() => FAULTS["cut now"].make(new Random(1)))
  await writer.append(1)
  await seen()
  await writer.append(1)
  await writer.close()
  const { received, ended, states } = await untilEnded(page, "it")
  assert.equal(ended, "whole", `${states}`)
  assert.equal(difference(writer.acked, received, [0, 0]), null, `${states}`)
  const { carries, not } = without
  if (carries) assert.ok(proxy.counts[carries] > 0, `carried by ${carries}: ${JSON.stringify(proxy.counts)}`)
  if (not) assert.equal(proxy.counts[not] ?? 0, 0, `never ${not}: ${JSON.stringify(proxy.counts)}`)
}
