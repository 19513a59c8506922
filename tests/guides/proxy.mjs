// What is tried through every proxy of the guide: the four transports, appends, and a server that is restarted. Needs Node 20 and FOURFOLD_BIN.
import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import http from "node:http"
import net from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { randomBytes } from "node:crypto"
import { setTimeout as sleep } from "node:timers/promises"

export const bin = process.env.FOURFOLD_BIN ?? new URL("../../target/debug/fourfold", import.meta.url).pathname
const LIMIT = { timeout: 60_000 }
const JSON_TYPE = { "Content-Type": "application/json" }

/** The code block of this language on a page of the guide. */
export function block(page, language) {
  const text = readFileSync(new URL(`../../docs/guide/${page}`, import.meta.url), "utf8")
  const found = text.match(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, "ms"))
  assert.ok(found, `${page} has a block of ${language}`)
  return found[1]
}

/** Replaces text that must be there, so that the page and its test cannot drift apart. */
export function replaced(text, from, to) {
  assert.ok(text.includes(from), from)
  return text.replaceAll(from, to)
}

export async function freePort() {
  const probe = net.createServer().listen(0, "127.0.0.1")
  await once(probe, "listening")
  const { port } = probe.address()
  probe.close()
  await once(probe, "close")
  return port
}

export const scratch = (t) => {
  const dir = mkdtempSync(join(tmpdir(), "proxy-"))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** A process that is ended by its id, with all it says if it ends early. */
export function start(command, args, options = {}) {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], ...options })
  let said = ""
  child.stderr.on("data", (data) => { said += data })
  const ended = once(child, "exit")
  return { child, said: () => said, end: async (signal = "SIGTERM") => { child.kill(signal); await ended } }
}

async function fourfold(dir, port) {
  const server = start(bin, ["serve", "--listen", `127.0.0.1:${port}`, "--data-dir", dir, "--drain-spread", "10ms", "--drain-deadline", "2s"])
  for await (const line of createInterface(server.child.stdout)) if (line.startsWith("listening on ")) return server
  assert.fail(`the server does not start: ${server.said()}`)
}

/** Waits until something listens. */
export async function listening(port, process) {
  for (let n = 0; n < 400; n++) {
    const socket = net.connect(port, "127.0.0.1")
    const open = await once(socket, "connect").then(() => true, () => false)
    socket.destroy()
    if (open) return
    assert.equal(process.child.exitCode, null, process.said())
    await sleep(25)
  }
  assert.fail(`nothing listens: ${process.said()}`)
}

/** A plain request; `response` is read as it comes. */
const request = (url, options = {}) => new Promise((resolve, reject) => {
  http.request(url, { agent: false, ...options }, resolve).on("error", reject).end(options.body)
})

async function text(response) {
  let all = ""
  for await (const chunk of response.setEncoding("utf8")) all += chunk
  return all
}

/** Reads until it is there; the rest of the answer is left. */
async function until(response, wanted) {
  let all = ""
  response.setEncoding("utf8")
  while (!all.includes(wanted)) {
    const chunk = response.read()
    if (chunk === null) await once(response, "readable")
    else all += chunk
    assert.ok(!response.readableEnded || all.includes(wanted), `the answer ended: ${all}`)
  }
  return all
}

/** Tries everything. `proxy(t, upstream)` starts one before that port and returns its own; `away` is told what a restart looks like. */
export function through(test, proxy, restarted) {
  const set = async (t) => {
    const port = await freePort()
    const dir = scratch(t)
    const running = { server: await fourfold(dir, port), restart: async () => { running.server = await fourfold(dir, port) } }
    t.after(() => running.server.child.exitCode ?? running.server.end())
    const through = await proxy(t, port)
    const url = `http://127.0.0.1:${through}/v1/stream/s`
    const direct = `http://127.0.0.1:${port}/v1/stream/s`
    assert.equal((await fetch(url, { method: "PUT", headers: JSON_TYPE })).status, 201)
    const append = async (at, record) => assert.equal((await fetch(at, { method: "POST", headers: JSON_TYPE, body: JSON.stringify(record) })).status, 204)
    return { url, direct, append, running, port: through }
  }

  test("SSE arrives at once, and compression holds nothing back", LIMIT, async (t) => {
    const { url, direct, append } = await set(t)
    const events = await request(`${url}?live=sse&offset=-1`, { headers: { "Accept-Encoding": "gzip" } })
    assert.equal(events.statusCode, 200)
    assert.equal(events.headers["content-encoding"], undefined)
    await until(events, "event: control")
    for (const n of [1, 2, 3]) {
      await append(direct, { n })
      const since = Date.now()
      await until(events, `{"n":${n}}`)
      assert.ok(Date.now() - since < 2_000, "it was held back")
    }
    events.destroy()
  })

  test("portions arrive at once", LIMIT, async (t) => {
    const { url, direct, append } = await set(t)
    const portions = await request(`${url}?live=long-poll&offset=-1`, { headers: { Accept: "application/x-ndjson", "Accept-Encoding": "gzip" } })
    assert.equal(portions.headers["content-encoding"], undefined)
    for (const n of [1, 2]) {
      await append(direct, { n })
      await until(portions, `{"n":${n}}`)
    }
    portions.destroy()
  })

  test("a long poll waits, and is answered when there is something", LIMIT, async (t) => {
    const { url, direct, append } = await set(t)
    const nothing = Date.now()
    assert.equal((await fetch(`${url}?live=long-poll&offset=now&timeout=1`)).status, 204)
    assert.ok(Date.now() - nothing > 800, "it did not wait")
    const polling = fetch(`${url}?live=long-poll&offset=-1`)
    await append(direct, { n: 1 })
    assert.deepEqual(await (await polling).json(), [{ n: 1 }])
  })

  test("a WebSocket with an Origin is upgraded, reads and appends", LIMIT, async (t) => {
    const { url, direct, append, port } = await set(t)
    const upgrade = http.request(`${url}?offset=-1`, {
      agent: false,
      headers: {
        Connection: "Upgrade", Upgrade: "websocket", Origin: `http://127.0.0.1:${port}`,
        "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": randomBytes(16).toString("base64"),
      },
    }).end()
    const [answer, socket, head] = await once(upgrade, "upgrade")
    assert.equal(answer.statusCode, 101)
    let got = head.toString("latin1")
    socket.on("data", (data) => { got += data.toString("latin1") })
    const seen = async (wanted) => { while (!got.includes(wanted)) await once(socket, "data") }
    await append(direct, { n: 1 })
    await seen('{"n":1}')
    const message = Buffer.from('{"append":[{"n":2}],"id":7}')
    const mask = randomBytes(4)
    socket.write(Buffer.concat([Buffer.from([0x81, 0x80 | message.length]), mask, message.map((byte, at) => byte ^ mask[at % 4])]))
    await seen('{"n":2}')
    socket.destroy()
    assert.deepEqual(await (await fetch(direct)).json(), [{ n: 1 }, { n: 2 }])
  })

  test("short polls keep their ETag and 304 through compression", LIMIT, async (t) => {
    const { url, append } = await set(t)
    await append(url, { text: "x".repeat(5_000) })
    const poll = (headers) => request(`${url}?offset=-1`, { headers: { "Accept-Encoding": "gzip", ...headers } })
    const first = await poll({})
    assert.equal(first.headers["content-encoding"], "gzip")
    first.resume()
    const again = await poll({ "If-None-Match": first.headers.etag })
    assert.equal(again.statusCode, 304)
    again.resume()
    await append(url, { n: 2 })
    const changed = await poll({ "If-None-Match": first.headers.etag })
    assert.equal(changed.statusCode, 200)
    changed.resume()
  })

  test("a large append passes, one that is too large does not", LIMIT, async (t) => {
    const { url } = await set(t)
    const body = (megabytes) => JSON.stringify("x".repeat(megabytes << 20))
    const sent = await fetch(url, { method: "POST", headers: JSON_TYPE, body: body(10) })
    assert.equal(sent.status, 204)
    assert.equal((await (await fetch(url)).json())[0].length, 10 << 20)
    const refused = await fetch(url, { method: "POST", headers: JSON_TYPE, body: body(20) }).then(({ status }) => status, () => 413)
    assert.equal(refused, 413)
  })

  test("the client's address is passed on, and what it claims is not", LIMIT, async (t) => {
    const upstream = http.createServer((request, answer) => answer.end(JSON.stringify(request.headers))).listen(0, "127.0.0.1")
    await once(upstream, "listening")
    t.after(() => upstream.close().closeAllConnections())
    const port = await proxy(t, upstream.address().port)
    const headers = JSON.parse(await text(await request(`http://127.0.0.1:${port}/v1/stream/s`, { headers: { "X-Forwarded-For": "192.0.2.1" } })))
    assert.equal(headers["x-forwarded-for"], "127.0.0.1")
    assert.equal(headers.host, `127.0.0.1:${port}`)
  })

  test("a server that is restarted is used again at once", LIMIT, async (t) => {
    const { url, direct, append, running } = await set(t)
    await append(url, { n: 1 })
    const events = await request(`${url}?live=sse&offset=-1`)
    await until(events, '{"n":1}')
    const goodbye = until(events, "goodbye")
    await running.server.end()
    await goodbye
    await restarted({ url, direct, request, text, restart: running.restart })
    await append(url, { n: 2 })
    assert.deepEqual(await (await fetch(url)).json(), [{ n: 1 }, { n: 2 }])
  })
}
