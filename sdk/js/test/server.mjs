// A real server of our own that can be killed and comes back at its address with its data, and a way to it that can be bad.
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtemp, rm } from "node:fs/promises"
import net from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

const BINARY = process.env.FOURFOLD_BIN ?? fileURLToPath(new URL("../../../target/debug/fourfold", import.meta.url))
const READY_MS = 20_000

/** A server; ended, and its data removed, when the test `t` ends. */
export async function serve(t, ...flags) {
  const folder = await mkdtemp(join(tmpdir(), "fourfold-client-"))
  let child
  let address = "127.0.0.1:0"
  const start = async () => {
    const drain = ["--drain-deadline", "2s", "--drain-spread", "500ms"]
    child = spawn(BINARY, ["serve", "--listen", address, "--data-dir", folder, "--log", "error", ...drain, ...flags])
    child.stderr.resume()
    const deadline = setTimeout(() => child.kill("SIGKILL"), READY_MS)
    for await (const line of createInterface({ input: child.stdout })) {
      const told = /listening on http:\/\/(\S+)/.exec(line)
      if (!told) continue
      address = told[1]
      clearTimeout(deadline)
      child.stdout.resume()
      return
    }
    throw new Error("the server did not start")
  }
  const kill = async (signal = "SIGKILL") => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, "exit")
    child.kill(signal)
    await gone
  }
  await start()
  t.after(async () => {
    await kill()
    await rm(folder, { recursive: true, force: true })
  })
  return {
    url: `http://${address}`,
    start,
    kill,
    /** Creates a stream and returns its URL. */
    async create(name, contentType = "application/json") {
      const url = `http://${address}/v1/stream/${name}`
      const answer = await fetch(url, { method: "PUT", headers: { "content-type": contentType } })
      if (!answer.ok) throw new Error(`PUT ${name}: ${answer.status}`)
      return url
    },
  }
}

/** All the JSON records of a stream. */
export async function records(url) {
  const all = []
  for (let offset = "-1", done = false; !done; ) {
    const answer = await fetch(`${url}?offset=${offset}`)
    if (!answer.ok) throw new Error(`GET ${url}: ${answer.status}`)
    all.push(...(await answer.json()))
    offset = answer.headers.get("stream-next-offset")
    done = answer.headers.has("stream-up-to-date") || answer.headers.has("stream-closed")
  }
  return all
}

/**
 * A way to `url` on a port of its own. `way.verdict(bytes, number)` is asked at the first bytes of each request, and says what
 * becomes of it: nothing (it passes), "cut" (not even sent), "deaf" (sent, but the answer is cut off), or an answer. While
 * `way.held` is an array, what a WebSocket's client says is kept there; each of it is a function that sends it on.
 */
export async function wayTo(t, url, verdict = () => undefined) {
  const { hostname, port } = new URL(url)
  const way = { verdict, requests: [], held: null }
  const sockets = new Set()
  const listener = net.createServer((near) => {
    const far = net.connect(port, hostname)
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket.on("error", () => {})
      socket.on("close", () => [near, far].forEach((one) => one.destroy()))
    }
    let fate
    let upgraded = false
    near.on("data", (bytes) => {
      const head = /^(POST|HEAD|GET|PUT) /.test(bytes.toString("latin1", 0, 5))
      if (head) {
        way.requests.push(bytes.toString("latin1"))
        upgraded = /upgrade: websocket/i.test(way.requests.at(-1))
        fate = way.verdict(bytes.toString("latin1"), way.requests.length - 1)
      }
      if (fate === "cut") return near.destroy()
      if (fate && fate !== "deaf") return near.end(fate)
      if (way.held && upgraded && !head) return way.held.push(() => far.write(bytes))
      far.write(bytes)
    })
    far.on("data", (bytes) => (fate === "deaf" ? near.destroy() : near.write(bytes)))
  })
  listener.listen(0, "127.0.0.1")
  await once(listener, "listening")
  way.url = (of) => of.replace(new URL(of).host, `127.0.0.1:${listener.address().port}`)
  way.cut = () => sockets.forEach((socket) => socket.destroy())
  t.after(() => {
    way.cut()
    listener.close()
  })
  return way
}

/** Rejects if `promise` takes longer than this. */
export function within(ms, promise, what = "it") {
  let timer
  const late = new Promise((_, fail) => (timer = setTimeout(() => fail(new Error(`${what} took over ${ms} ms`)), ms)))
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}
