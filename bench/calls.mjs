// How long a portion takes from its upstream's write to its watcher's read: through a call, through a plain reverse proxy (nginx,
// proxy_buffering off), and with nothing between. By hand: node bench/calls.mjs [ROUNDS], after cargo build --release -p fourfold.
//
// An upstream in a process of its own answers with lines of JSON, 200 a second, each with the time at which it was written. The watcher reads
// bytes from a socket, and takes the time when a line is there; both by the machine's monotonic clock. Every subject has one connection and one
// call at a time; rounds go through all subjects in turn, so that what else the machine does meets all. The durable engine reads out only what
// is synced: what a sync costs here, of a file of its own, is told beside it.
import { spawn } from "node:child_process"
import { closeSync, fdatasyncSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs"
import { createServer } from "node:http"
import { join } from "node:path"
import { cpuUs } from "./process.mjs"
import { once, open, UPGRADE, header } from "./wire.mjs"
import { scratch, start, stopAll } from "./servers.mjs"

const PORTIONS = 1_000 // Of one answer; five seconds.
const EVERY_US = 5_000
const WARM_UP = 50 // Portions at the start of each answer that do not count: connections and compilers.
const ANSWER_MS_MAX = 30_000

const nowUs = () => Number(process.hrtime.bigint() / 1_000n)

if (process.argv[2] === "upstream") upstream()
else await main(Number(process.argv[2] ?? 4))

/** Answers each request with PORTIONS lines, each at its time whatever became of the one before. */
function upstream() {
  createServer(async (request, response) => {
    request.resume()
    response.writeHead(200, { "Content-Type": "application/x-ndjson" })
    response.flushHeaders()
    const begun = nowUs() + 100_000 // Whoever reads the stream beside its call is there by then.
    for (let n = 0; n < PORTIONS; n++) {
      const wait = (begun + n * EVERY_US - nowUs()) / 1_000
      if (wait > 0) await new Promise((wake) => setTimeout(wake, wait))
      response.write(`{"n":${n},"at":${nowUs()},"text":"${"x".repeat(90)}"}\n`)
    }
    response.end()
  }).listen(0, "127.0.0.1", function () {
    console.log(this.address().port)
  })
}

async function main(rounds) {
  const child = spawn(process.execPath, [import.meta.filename, "upstream"], { stdio: ["ignore", "pipe", "inherit"] })
  process.on("exit", () => child.kill())
  const port = Number(await new Promise((resolve) => child.stdout.once("data", resolve)))
  const dir = scratch("calls")
  try {
    const config = join(dir, "calls.toml")
    writeFileSync(config, `[calls.lines]\nurl = "http://127.0.0.1:${port}/"\n`)
    const nginx = await start("nginx", { upstream: port })
    const memory = await start("fourfold", { engine: "memory", flags: ["--config", config] })
    const embedded = await start("fourfold", { engine: "embedded", flags: ["--config", config] })
    const subjects = [
      ["nothing between", { pid: undefined }, () => read(port, "POST", "/")],
      ["nginx", nginx, () => read(nginx.port, "POST", "/")],
      ["call, memory: SSE on the POST", memory, () => read(memory.port, "POST", "/v1/call/lines?live=sse")],
      ["call, memory: WebSocket at its stream", memory, () => webSocket(memory.port)],
      ["call, durable: SSE on the POST", embedded, () => read(embedded.port, "POST", "/v1/call/lines?live=sse")],
      ["call, durable: WebSocket at its stream", embedded, () => webSocket(embedded.port)],
    ].map(([name, { pid }, run]) => ({ name, pid, run, took: [], cpuUs: 0 }))
    const syncs = []
    for (let round = 0; round < rounds; round++) {
      for (const subject of subjects) {
        const before = subject.pid ? cpuUs(subject.pid) : 0
        subject.took.push(await subject.run())
        if (subject.pid) subject.cpuUs += cpuUs(subject.pid) - before
      }
      syncs.push(...sync(join(dir, "sync")))
    }
    console.log("| from the upstream's write to the watcher's read | portions | p50 | p90 | p99 | max | p99 by round | CPU a portion |")
    console.log("|---|---:|---:|---:|---:|---:|---:|---:|")
    for (const { name, pid, took, cpuUs } of subjects) {
      const cpu = pid ? `${Math.round(cpuUs / (rounds * PORTIONS))} µs` : ""
      const all = took.flat()
      const byRound = took.map((round) => (quantile(round, 0.99) / 1_000).toFixed(1)).join(" ")
      console.log(`| ${name} | ${all.length} | ${figures(all)} | ${byRound} | ${cpu} |`)
    }
    console.log(`\na write and a sync of 150 B: ${figures(syncs).replaceAll(" |", ",")} (p50, p90, p99, max)`)
  } finally {
    await stopAll()
    rmSync(dir, { recursive: true, force: true })
    child.kill()
  }
}

async function webSocket(port) {
  const begun = await once(port, "POST", "/v1/call/lines", {})
  const stream = new URL(header(begun, "location"), "http://bench").pathname
  return read(port, "GET", `${stream}?offset=-1`, UPGRADE)
}

/** Reads an answer until its last portion; the microseconds that each took. Errors: one that is missing, comes twice or out of turn. */
async function read(port, method, path, headers = "Content-Length: 0\r\n") {
  const socket = await open(port)
  socket.setNoDelay(true)
  return new Promise((resolve, reject) => {
    const took = []
    let rest = ""
    const timer = setTimeout(() => socket.destroy(new Error(`${path}: no end after ${took.length} portions`)), ANSWER_MS_MAX)
    socket.on("error", reject)
    socket.on("close", () => {
      clearTimeout(timer)
      if (took.length === PORTIONS) resolve(took.slice(WARM_UP))
      else reject(new Error(`${path}: ended after ${took.length} portions: ${rest.slice(0, 300)}`))
    })
    socket.on("data", (piece) => {
      const at = nowUs()
      rest += piece.toString("latin1")
      let end = 0
      for (const { 0: found, 1: n, 2: written, index } of rest.matchAll(/"n":(\d+),"at":(\d+),/g)) {
        if (Number(n) !== took.length) return socket.destroy(new Error(`${path}: ${n} where ${took.length} is due`))
        took.push(at - Number(written))
        end = index + found.length
      }
      rest = rest.slice(end)
      if (took.length === PORTIONS) socket.destroy()
    })
    socket.write(`${method} ${path} HTTP/1.1\r\nHost: bench\r\n${headers}\r\n`)
  })
}

/** What the disk takes to keep a little more of a file, in microseconds. */
function sync(path) {
  const file = openSync(path, "w")
  const took = Array.from({ length: 200 }, () => {
    const begun = nowUs()
    writeSync(file, "x".repeat(150))
    fdatasyncSync(file)
    return nowUs() - begun
  })
  closeSync(file)
  return took
}

function figures(took) {
  return [0.5, 0.9, 0.99, 1].map((share) => `${(quantile(took, share) / 1_000).toFixed(2)} ms`).join(" | ")
}

function quantile(took, share) {
  const sorted = took.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]
}
