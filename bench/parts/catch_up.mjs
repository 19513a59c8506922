// A reader that comes late: 1 GB of records by each transport, at which rate, and what it costs the server.
import { execFileSync } from "node:child_process"
import { readdirSync, rmSync, statSync } from "node:fs"
import { join } from "node:path"
import { cpuUs, pssBytes } from "../process.mjs"
import { scratch, start } from "../servers.mjs"
import { Connection, drain, header, once, UPGRADE } from "../wire.mjs"
import { bars } from "../plot.mjs"
import { median } from "../results.mjs"
import { grouped } from "../runs.mjs"
import { bytes, figure, SUBJECTS, table, time, TRANSPORTS } from "../words.mjs"

const PATH = "/v1/stream/late"
const RECORD_BYTES = 1000
const APPEND_BYTES = 8 * 1024 * 1024
const EACH_MS_MAX = 180_000
const PAD = "x".repeat(RECORD_BYTES - `{"n":"000000000","pad":""}`.length)
const LAST = `"streamClosed":true`

export const about = {
  title: "Catch-up of a large stream",
  what: "One reader, one closed stream of JSON records of 1,000 B, 1 GB (quick: 100 MB) in all; each read by a server that was started anew, so nothing is in its memory, though the files are in the kernel's. The floor is a loop of `write()` from memory, 64 KiB each.",
}

export async function run({ quick, rounds, measure }) {
  const bytes = quick ? 100e6 : 1e9
  const floor = { subscribers: 1, rate: Math.round(bytes / 65_536), seconds: 1, size: 65_536, coalesce: 1, shape: "blast" }
  let lacking
  const peer = await fill("durable-streams", { durability: "wal" }, bytes).catch((error) => {
    lacking = error
  })
  const ours = await fill("fourfold", { engine: "embedded", durability: "os" }, bytes)
  try {
    await measure({ subject: "disk", transport: "file" }, () => disk(ours.dir))
    for (let round = 0; round < rounds; round++) {
      await measure({ round, subject: "floor", transport: "push" }, () => read("floor", floor, floorRead))
      for (const [transport, reader] of Object.entries(readers)) {
        await measure({ round, subject: "fourfold", transport }, () => read("fourfold", { engine: "embedded", dir: ours.dir }, reader))
        if (transport === "sse" || transport === "short-poll") {
          await measure({ round, subject: "durable-streams", transport }, () => {
            if (lacking) throw lacking
            return read("durable-streams", { durability: "wal", dir: peer.dir }, reader)
          })
        }
      }
    }
  } finally {
    ours.remove()
    peer?.remove()
  }
}

/** The part of the page. */
export function section(runs, plot) {
  const groups = grouped(runs).map(([, of]) => of)
  const name = ({ subject, transport }) => (subject === "floor" ? "floor (`write()`)" : `${SUBJECTS[subject]} ${TRANSPORTS[transport]}`)
  return [
    table(
      ["", "rate", "requests", "CPU per MB", "memory before", "at its peak"],
      groups.map((of) => {
        const mid = (value) => median(of.map(value))
        return [
          name(of[0]),
          figure(
            mid((run) => run.mbPerSecond),
            " MB/s",
          ),
          figure(mid((run) => run.requests)),
          time(mid((run) => run.cpuMsPerMb)),
          bytes(mid((run) => run.pssBefore)),
          bytes(mid((run) => run.pssPeak)),
        ]
      }),
    ),
    plot(
      "catch-up",
      bars({
        title: "Catch-up by one reader",
        x: { label: "MB/s" },
        rows: groups.map((of) => ({
          name: name(of[0]).replaceAll("`", ""),
          value: median(of.map((run) => run.mbPerSecond)),
          colour: of[0].subject === "fourfold" ? 0 : 5,
        })),
      }),
    ),
  ]
}

const readers = {
  websocket: (port) => drain(port, `${PATH}?offset=-1`, UPGRADE, LAST, EACH_MS_MAX),
  sse: (port) => drain(port, `${PATH}?offset=-1&live=sse`, "", LAST, EACH_MS_MAX),
  portions: (port) =>
    drain(port, `${PATH}?offset=-1&live=long-poll`, "Accept: application/x-ndjson\r\nConnection: close\r\n", LAST, EACH_MS_MAX),
  "long-poll": (port) => polled(port, "&live=long-poll"),
  "short-poll": (port) => polled(port, ""),
}

const floorRead = (port) => drain(port, "/", "", undefined, EACH_MS_MAX)

/** Requests until the end of the stream; answers the bytes of all bodies. */
async function polled(port, query) {
  const connection = await Connection.open(port)
  let bytes = 0,
    requests = 0
  for (let offset = "-1"; ;) {
    const answer = await connection.request("GET", `${PATH}?offset=${offset}${query}`, { keep: false })
    requests += 1
    bytes += answer.bytes
    offset = header(answer, "stream-next-offset")
    if (header(answer, "stream-closed") || !offset) break
    if (requests > 1e6) throw new Error("the stream does not end")
  }
  connection.end()
  return { bytes, requests }
}

/** A directory with one closed stream of so many bytes. */
async function fill(name, { durability, engine }, bytes) {
  const dir = scratch(name)
  const remove = () => rmSync(dir, { recursive: true, force: true })
  const flags = name === "fourfold" ? ["--durability", durability] : undefined
  try {
    const server = await start(name, { dir, engine, flags, durability })
    try {
      await append(server.port, bytes)
    } finally {
      await server.stop()
    }
  } catch (error) {
    remove()
    throw error
  }
  return { dir, remove }
}

async function append(port, bytes) {
  const type = { "content-type": "application/json" }
  await once(port, "PUT", PATH, { headers: type })
  const connection = await Connection.open(port)
  const count = Math.floor(APPEND_BYTES / (RECORD_BYTES + 1))
  for (let filled = 0, n = 0; filled < bytes; filled += count * RECORD_BYTES) {
    const records = Array.from({ length: count }, () => `{"n":"${String(n++).padStart(9, "0")}","pad":"${PAD}"}`)
    const answer = await connection.request("POST", PATH, { headers: type, body: `[${records}]` })
    if (answer.status >= 300) throw new Error(`an append was refused: ${answer.status} ${answer.body}`)
  }
  await connection.request("POST", PATH, { headers: { ...type, "stream-closed": "true" } })
  connection.end()
}

/** Reads with a server of its own, while its memory is looked at ten times a second. */
async function read(name, options, reader) {
  const server = await start(name, options)
  try {
    const before = name === "floor" ? 0 : pssBytes(server.pid)
    let peak = before
    const watch = setInterval(() => {
      peak = Math.max(peak, pssBytes(server.pid))
    }, 100)
    const cpu = cpuUs(server.pid),
      begun = performance.now()
    const got = await reader(server.port)
    const seconds = (performance.now() - begun) / 1000
    clearInterval(watch)
    const { bytes, requests } = typeof got === "number" ? { bytes: got, requests: 1 } : got
    return {
      bytes,
      requests,
      mbPerSecond: bytes / 1e6 / seconds,
      cpuMsPerMb: name === "floor" ? undefined : (cpuUs(server.pid) - cpu) / 1000 / (bytes / 1e6),
      pssBefore: before,
      pssPeak: peak,
    }
  } finally {
    await server.stop()
  }
}

/** What the disk gives without the page cache: the largest file of the stream, read directly. */
function disk(dir) {
  const files = readdirSync(dir, { recursive: true })
    .map((name) => join(dir, name))
    .map((path) => ({ path, size: statSync(path).size }))
  const { path, size } = files.filter(({ path }) => statSync(path).isFile()).sort((a, b) => b.size - a.size)[0]
  const begun = performance.now()
  execFileSync("dd", [`if=${path}`, "of=/dev/null", "bs=1M", "iflag=direct"], { stdio: "ignore", timeout: EACH_MS_MAX })
  return { bytes: size, mbPerSecond: size / 1e3 / (performance.now() - begun) }
}
