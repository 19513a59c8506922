/**
 * How long a switch takes: from the moment a fault begins to the first record over whatever carries it then; how many records
 * that makes late, and by how much at most; and how long after the fault is gone the first transport carries it again.
 * By hand: `node sdk/js/test/hostile/switch.bench.mjs [rounds]`; prints a table of medians.
 */
import { DirectWriter } from "./append.mjs"
import { follow, WebSocket } from "./client.mjs"
import { FAULTS } from "./faults.mjs"
import { Proxy } from "./proxy.mjs"
import { Random } from "./random.mjs"
import { SORTS } from "./records.mjs"
import { Server } from "./server.mjs"

const ROUNDS = Number(process.argv[2] ?? 3)
const AT_ONCE = 6 // So that they do not slow each other.
const PACE_MS = 20
const LATE_MS = 50 // A record that took longer than this is late; without a fault they take a few milliseconds.
const SETTLED_MS = 1_500 // How long it runs well before the fault.
const GIVE_UP_MS = 90_000
const CLIMB_MS_MAX = 30_000

const ALL = ["websocket", "sse", "long-poll", "short-poll"]
const HTTP = ALL.slice(1)

// `strike`: what happens to the connection at work. `then`: what happens to new ones of these kinds, until the fault is over.
// Without `strike` the fault is there from the beginning: then it is the time to the first record.
const SCENES = [
  { name: "WebSocket cut once", strike: "cut now" },
  { name: "WebSocket cut, then refused (502)", strike: "cut now", then: { websocket: "upgrade refused with 502" } },
  { name: "WebSocket cut, then never answered", strike: "cut now", then: { websocket: "upgrade never answered" } },
  { name: "WebSocket cut, then swallowed", strike: "cut now", then: { websocket: "swallows from the beginning" } },
  { name: "WebSocket goes silent", strike: "goes silent" },
  { name: "WebSocket goes silent, then refused", strike: "goes silent", then: { websocket: "upgrade refused with 400" } },
  { name: "WebSocket refused from the start (400)", then: { websocket: "upgrade refused with 400" } },
  { name: "WebSocket never answered from the start", then: { websocket: "upgrade never answered" } },
  { name: "WebSocket swallowed from the start", then: { websocket: "swallows from the beginning" } },
  { name: "… and SSE buffered", then: { websocket: "swallows from the beginning", sse: "buffers until the end" } },
  { name: "SSE cut once", transports: HTTP, strike: "cut now" },
  { name: "SSE cut, then 502", transports: HTTP, strike: "cut now", then: { sse: "502" } },
  { name: "SSE goes silent, then buffered", transports: HTTP, strike: "goes silent", then: { sse: "buffers until the end" } },
  { name: "SSE buffered from the start", transports: HTTP, then: { sse: "buffers until the end" } },
  { name: "SSE answered by a captive portal", transports: HTTP, strike: "cut now", then: { sse: "captive portal" } },
  { name: "long poll cut once", transports: HTTP.slice(1), strike: "cut now" },
  { name: "long poll: 502 from now on", transports: HTTP.slice(1), strike: "cut now", then: { "long-poll": "502" } },
  { name: "long poll goes silent once", transports: HTTP.slice(1), strike: "goes silent" },
  { name: "long polls go silent from now on", transports: HTTP.slice(1), strike: "goes silent", then: { "long-poll": "goes silent" } },
  { name: "server killed, back at once", restart: true },
]

async function measure({ transports = ALL, strike, then, restart }) {
  const server = await Server.start()
  const proxy = await Proxy.before(server.url)
  const path = "/v1/stream/switch"
  const random = new Random(1)
  const bad = () => (proxy.choose = (exchange) => FAULTS[then?.[exchange.kind]]?.make(random) ?? null)
  const stopped = new AbortController()
  try {
    await DirectWriter.create(server.url + path, SORTS.json)
    const sort = { ...SORTS.json, batchMax: 1, record: (n) => ({ n, at: performance.now() }) }
    const writer = new DirectWriter(server.url + path, sort, random)
    const over = new AbortController()
    const writing = (async () => {
      for (; !over.signal.aborted; await pause(PACE_MS)) await writer.append(1)
    })()

    const fromTheStart = !strike && !restart
    if (fromTheStart) bad()
    const began = performance.now()
    const arrivals = []
    let heard = () => {}
    const following = follow(proxy.url + path, { offset: "now", transports, WebSocket, share: false, signal: stopped.signal })
    const reading = (async () => {
      for await (const { n, at } of following) {
        arrivals.push({ n, at, came: performance.now(), way: following.state.transport })
        heard()
      }
    })().catch(() => {})
    const until = async (condition, ms) => {
      const deadline = performance.now() + ms
      while (!condition() && performance.now() < deadline) await Promise.race([new Promise((next) => (heard = next)), pause(50)])
      return condition()
    }

    if (!fromTheStart) await until(() => arrivals.length > 0 && performance.now() - began > SETTLED_MS, GIVE_UP_MS)
    const faultAt = fromTheStart ? began : performance.now()
    const seen = arrivals.length
    if (strike) {
      bad()
      while (proxy.strike(() => FAULTS[strike].make(random)) === 0) await pause(1) // Between two polls there is nothing to strike.
    }
    if (restart) await server.restart()
    // What was in flight when the fault began is not over the next transport: the record must be one appended after it.
    const after = () => arrivals.find(({ at }, place) => place >= seen && at > faultAt)
    if (!(await until(() => after(), GIVE_UP_MS))) return { switchMs: Infinity }
    const switchMs = after().came - faultAt
    const { way } = after()
    await pause(500)
    const late = arrivals.slice(seen).filter(({ at, came }) => came - at > LATE_MS)

    proxy.choose = () => null
    const goneAt = performance.now()
    const climbed = await until(() => following.state.name === "live" && following.state.transport === transports[0], CLIMB_MS_MAX)
    const climbMs = climbed ? performance.now() - goneAt : Infinity
    over.abort()
    await writing
    const lateMs = Math.max(0, ...late.map(({ at, came }) => came - at))
    stopped.abort()
    await reading
    return { switchMs, way, late: late.length, lateMs, climbMs }
  } finally {
    stopped.abort()
    await proxy.close()
    await server.stop()
  }
}

function pause(ms) {
  return new Promise((over) => setTimeout(over, ms))
}

const results = SCENES.map(() => [])
const jobs = SCENES.flatMap((scene, place) => Array.from({ length: ROUNDS }, () => async () => results[place].push(await measure(scene))))
const work = async () => {
  for (let job = jobs.shift(); job; job = jobs.shift()) await job()
}
await Promise.all(Array.from({ length: AT_ONCE }, work))

const shown = (all, key) => {
  const median = all.map((one) => one[key]).sort((a, b) => a - b)[all.length >> 1]
  return median === Infinity ? "–" : String(Math.round(median))
}
console.log(`| fault | first record after (ms) | over | late records (one each ${PACE_MS} ms) | by at most (ms) | climbed back after (ms) |`)
console.log("|---|---|---|---|---|---|")
for (const [place, { name }] of SCENES.entries()) {
  const all = results[place]
  const ways = [...new Set(all.map(({ way }) => way))].join(", ")
  console.log(`| ${name} | ${shown(all, "switchMs")} | ${ways} | ${shown(all, "late")} | ${shown(all, "lateMs")} | ${shown(all, "climbMs")} |`)
}
