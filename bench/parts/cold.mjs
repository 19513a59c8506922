// Very many streams that nobody reads: how long a start takes, and what each costs in memory and on disk.
import { rmSync } from "node:fs"
import { pssBytes } from "../process.mjs"
import { diskBytes, scratch, start } from "../servers.mjs"
import { Connection } from "../wire.mjs"
import { bytes, figure, SUBJECTS, table, time } from "../words.mjs"

const RECORDS = 10
const RECORD = `{"pad":"${"x".repeat(90)}"}`
const CONNECTIONS = 8,
  PIPELINED = 32
const FILL_MS_MAX = 420_000
const LOOKS = 2000
// It refuses more than the limit of open files, which is often 20,000.
const PEER_STREAMS = 10_000

export const about = {
  title: "A million cold streams",
  what: "Each stream created with 10 records of 100 B by one `PUT`; then the server is ended and started again. ElectricSQL's server keeps a file open for each, so it is given fewer.",
}

export async function run({ quick, measure }) {
  await measure({ subject: "fourfold" }, () =>
    one("fourfold", { engine: "embedded", flags: ["--durability", "os"] }, quick ? 50_000 : 1_000_000),
  )
  await measure({ subject: "durable-streams" }, () => one("durable-streams", { durability: "memory" }, quick ? 5_000 : PEER_STREAMS))
}

/** The part of the page. */
export function section(runs) {
  return [
    table(
      ["", "streams", "start to first answer", "memory per cold stream", "disk per stream", "read of a cold one, p50", "p99", "created/s"],
      runs.map((run) => [
        SUBJECTS[run.subject],
        run.streams.toLocaleString("en-GB"),
        figure(run.startMs / 1000, " s"),
        bytes(run.bytesPerColdStream),
        bytes(run.diskBytesPerStream),
        time(run.readMsP50),
        time(run.readMsP99),
        figure(run.streams / run.fillSeconds),
      ]),
    ),
  ]
}

async function one(name, options, streams) {
  const dir = scratch(name)
  try {
    const filled = await during(name, { ...options, dir }, async (server) => {
      const basePss = pssBytes(server.pid)
      const begun = performance.now()
      await fill(server.port, streams)
      return { basePss, fillSeconds: (performance.now() - begun) / 1000, hotPss: pssBytes(server.pid) }
    })
    const diskBytesPerStream = diskBytes(dir) / streams
    const begun = performance.now()
    return await during(name, { ...options, dir }, async (server) => {
      const connection = await Connection.open(server.port)
      const first = await connection.request("GET", `${path(streams - 1)}?offset=-1`)
      if (first.status !== 200 || first.body.length < RECORDS * RECORD.length) throw new Error(`a cold stream answered ${first.status}`)
      const startMs = performance.now() - begun
      const coldPss = pssBytes(server.pid)
      const reads = []
      for (let n = 0; n < LOOKS; n++) {
        const at = performance.now()
        await connection.request("GET", `${path(Math.floor(Math.random() * streams))}?offset=-1`)
        reads.push(performance.now() - at)
      }
      connection.end()
      reads.sort((a, b) => a - b)
      const [readMsP50, readMsP99] = [0.5, 0.99].map((quantile) => reads[Math.floor(LOOKS * quantile)])
      const bytesPerColdStream = (coldPss - filled.basePss) / streams
      return {
        streams,
        ...filled,
        startMs,
        coldPss,
        lookedPss: pssBytes(server.pid),
        bytesPerColdStream,
        diskBytesPerStream,
        readMsP50,
        readMsP99,
      }
    })
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** While a server runs. It has ended before anything else happens. */
async function during(name, options, work) {
  const server = await start(name, options)
  try {
    return await work(server)
  } finally {
    await server.stop()
  }
}

async function fill(port, streams) {
  const body = `[${Array(RECORDS).fill(RECORD)}]`,
    headers = { "content-type": "application/json" }
  const deadline = performance.now() + FILL_MS_MAX
  let next = 0
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      const connection = await Connection.open(port)
      while (next < streams) {
        if (performance.now() > deadline) throw new Error(`only ${next} streams in time`)
        const batch = []
        for (let n = 0; n < PIPELINED && next < streams; n++) batch.push(connection.request("PUT", path(next++), { headers, body }))
        const refused = (await Promise.all(batch)).find((answer) => answer.status >= 300)
        if (refused) throw new Error(`a stream was refused: ${refused.status} ${refused.body}`)
      }
      connection.end()
    }),
  )
}

function path(n) {
  return `/v1/stream/cold-${String(n).padStart(8, "0")}`
}
