// The proxy does what its faults are called: seen by a bare socket, exchange by exchange.
import assert from "node:assert/strict"
import net from "node:net"
import { after, before, describe, test } from "node:test"

import { DirectWriter } from "./append.mjs"
import { FAULTS } from "./faults.mjs"
import { Proxy } from "./proxy.mjs"
import { Random } from "./random.mjs"
import { SORTS } from "./records.mjs"
import { Server } from "./server.mjs"

const LIMIT = { timeout: 60_000 }
const QUIET_MS = 900
const SLOW_MS = 8_000 // Where the whole answer has to come, however busy the machine is.
const RECORDS = 60
const PATH = "/v1/stream/proxy"

let server
before(async () => {
  server = await Server.start()
  for (const path of [PATH, `${PATH}/appends`]) await DirectWriter.create(server.url + path, SORTS.json)
  const writer = new DirectWriter(server.url + PATH, SORTS.json, new Random(3))
  while (writer.acked.length < RECORDS) await writer.append()
})
after(async () => {
  await server?.stop()
})

const ASKS = {
  "short-poll": `GET ${PATH}?offset=-1 HTTP/1.1\r\nHost: a\r\n\r\n`,
  "long-poll": `GET ${PATH}?offset=-1&live=long-poll HTTP/1.1\r\nHost: a\r\n\r\n`,
  "sse": `GET ${PATH}?offset=-1&live=sse HTTP/1.1\r\nHost: a\r\n\r\n`,
  "websocket":
    `GET ${PATH}?offset=-1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
  "append":
    `POST ${PATH}/appends HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nProducer-Id: p\r\nProducer-Epoch: 0\r\n` +
    "Producer-Seq: 0\r\nContent-Length: 1\r\n\r\n7",
}

/** What a client sees: the bytes, and "fin", "rst", or "open" if nothing comes any more. */
function ask(url, kind, bytesExpected = 0) {
  const { port } = new URL(url)
  const socket = net.connect(Number(port), "127.0.0.1")
  const pieces = []
  return new Promise((done) => {
    const finish = (end) => {
      clearTimeout(quiet)
      socket.destroy()
      done({ bytes: Buffer.concat(pieces), end })
    }
    let missing = bytesExpected
    let quiet = setTimeout(finish, missing > 0 ? SLOW_MS : QUIET_MS, "open")
    socket.on("data", (bytes) => {
      pieces.push(bytes)
      missing -= bytes.length
      clearTimeout(quiet)
      quiet = setTimeout(finish, missing > 0 ? SLOW_MS : QUIET_MS, "open")
    })
    socket.on("end", () => finish("fin"))
    socket.on("error", () => finish("rst"))
    socket.write(ASKS[kind])
  })
}

// What each shows: a status of the proxy's own; or how much of what the server says, and how it ends.
const SHOWS = {
  "upgrade refused with 400": { status: 400, end: "fin" },
  "upgrade refused with 502": { status: 502, end: "fin" },
  "upgrade refused with 403 HTML": { status: 403, end: "fin" },
  "upgrade answered by 200 HTML": { status: 200, end: "fin" },
  "upgrade dropped": { nothing: true, end: "fin" },
  "upgrade never answered": { nothing: true, end: "open" },
  "swallows from the beginning": { part: true, end: "open" },
  "swallows what comes later": { end: "open" },
  "swallows what the client sends": { end: "open" },
  "buffers until the end": { end: "open" },
  "buffers until there is enough": { end: "open" },
  "goes silent": { nothing: true, end: "open" },
  "cut at a byte": { cut: true },
  "cut in the headers": { part: true, cut: true },
  "cut in a character": { part: true, end: "fin" },
  "cut behind the body": {},
  "body cut short, ended as if whole": { end: "fin" },
  "cut now": { nothing: true, cut: true },
  "cut when the request is through": { nothing: true, cut: true },
  "slow": { whole: true },
  "in small pieces": { whole: true },
  "idle connections killed": {},
  "502": { status: 502, end: "fin" },
  "503": { status: 503, end: "open" },
  "503 until a date": { status: 503, end: "open" },
  "429": { status: 429, end: "open" },
  "403 HTML": { status: 403, end: "open" },
  "captive portal": { status: 200, html: true, end: "open" },
  "captive portal elsewhere": { status: 302, end: "open" },
  "204 of its own": { status: 204, end: "open" },
  "empty 200": { status: 200, end: "open" },
}

test("without a fault it changes nothing", LIMIT, async () => {
  const proxy = await Proxy.before(server.url)
  for (const kind of ["short-poll", "long-poll"]) {
    const [direct, through] = await Promise.all([ask(server.url, kind), ask(proxy.url, kind)])
    assert.equal(body(through.bytes), body(direct.bytes))
    assert.equal(through.end, direct.end)
  }
  await proxy.close()
})

test("every fault has a test", () => assert.deepEqual(Object.keys(SHOWS).sort(), Object.keys(FAULTS).sort()))

describe("alone", { concurrency: true }, () => {
  for (const [name, shows] of Object.entries(SHOWS)) test(name, LIMIT, () => shownBy(name, shows))
})

async function shownBy(name, shows) {
  const proxy = await Proxy.before(server.url)
  try {
    for (const [number, kind] of FAULTS[name].kinds.entries()) {
      proxy.choose = () => FAULTS[name].make(new Random(number, name))
      const whole = await ask(server.url, kind)
      const expected = shows.whole ? body(whole.bytes).length : 0 // Heads differ by some digits.
      compare(kind, shows, whole.bytes, await ask(proxy.url, kind, expected))
    }
  } finally {
    await proxy.close()
  }
}

function compare(kind, shows, whole, { bytes, end }) {
  const text = bytes.toString("latin1")
  const told = `${kind}: ${bytes.length} of ${whole.length} bytes, ${end}`
  if (shows.end) assert.equal(end, shows.end, told)
  if (shows.cut) assert.ok(end !== "open" || bytes.length >= whole.length - 200, told)
  if (shows.nothing) assert.equal(bytes.length, 0, told)
  if (shows.part) assert.ok(bytes.length < whole.length, told)
  if (shows.status) assert.match(text, new RegExp(`^HTTP/1.1 ${shows.status} `), told)
  if (shows.html) assert.match(text, /<!doctype html>/)
  if (shows.whole && kind !== "append") assert.equal(body(bytes).length, body(whole).length, told)
}

function body(bytes) {
  return bytes.toString("latin1").split("\r\n\r\n").slice(1).join("\r\n\r\n").replace(/retry: \d+|\d{13}|"streamCursor":"\d+"/g, "")
}
