// The four transports of our own server on the same work: which costs what.
import { load } from "../load.mjs"
import { cpuUs } from "../process.mjs"
import { start } from "../servers.mjs"
import { Connection, ignore, once, Talk } from "../wire.mjs"

export const about = {
  title: "The transports side by side: 200 subscribers of one stream",
  what: "Our own server with everything in memory, records of 128 B at the same rates on every transport. Short polls ask every second, and every 100 ms.",
}

const IDLE = 1000
const TRANSPORTS = [["websocket"], ["sse"], ["portions"], ["long-poll"], ["short-poll", 1000], ["short-poll", 100]]

export async function run({ quick, rounds, measure }) {
  for (let round = 0; round < Math.min(rounds, 2); round++) {
    for (const rate of quick ? [1, 20] : [1, 5, 20, 100]) {
      for (const [transport, interval = 1000] of TRANSPORTS) {
        if (quick && transport === "portions") continue
        const flags = { subscribers: 200, rate, size: 128, interval, seconds: quick ? 2 : 5, warmUp: 1 }
        const key = { round, subject: "fourfold", transport, ...(transport === "short-poll" ? { interval } : {}), rate }
        await measure(key, () => load("fourfold", transport, flags))
      }
    }
  }
  // Nothing happens: what it costs to be told so.
  for (const [transport, interval = 1000] of TRANSPORTS) {
    if (transport === "portions") continue // Waits as a long poll does.
    const flags = { subscribers: 0, idle: IDLE, writers: 0, interval, seconds: quick ? 2 : 32, warmUp: 1 }
    const key = { subject: "fourfold", transport, ...(transport === "short-poll" ? { interval } : {}), rate: 0 }
    await measure(key, async () => ({ connections: IDLE, ...(await load("fourfold", transport, flags)) }))
  }
  // The way back: a reader that also writes, by `POST` beside its stream or on its WebSocket.
  for (let round = 0; round < rounds; round++) {
    for (const [way, open] of Object.entries(WAYS)) {
      await measure({ round, subject: "fourfold", transport: way, way: "back" }, () => back(open, quick ? 2 : 4))
    }
  }
}

const WRITERS = 16
const TYPE = { "content-type": "application/json" }
const RECORD = `{"pad":"${"x".repeat(118)}"}`

/** Way → port, path → { append(), end() }. Each reads its stream, too. */
const WAYS = {
  sse: async (port, path) => {
    const reader = await ignore(port, `${path}?offset=now&live=sse`),
      connection = await Connection.open(port)
    const end = () => {
      reader.destroy()
      connection.end()
    }
    return { append: () => connection.request("POST", path, { headers: TYPE, body: RECORD }), end }
  },
  websocket: async (port, path) => {
    const talk = await Talk.open(port, `${path}?offset=now`)
    let id = 0
    return { append: () => talk.say(`{"append":[${RECORD}],"id":${++id}}`, `{"id":${id},"ack"`), end: () => talk.end() }
  },
}

/** Clients that each read a stream of their own and append to it, again as soon as they are answered. */
async function back(open, seconds) {
  const server = await start("fourfold")
  try {
    const paths = Array.from({ length: WRITERS }, (_, n) => `/v1/stream/back-${n}`)
    for (const path of paths) await once(server.port, "PUT", path, { headers: TYPE })
    const writers = await Promise.all(paths.map((path) => open(server.port, path)))
    const took = [],
      cpu = cpuUs(server.pid),
      begun = performance.now()
    await Promise.all(
      writers.map(async (writer) => {
        while (performance.now() - begun < seconds * 1000) {
          const at = performance.now()
          await writer.append()
          took.push(performance.now() - at)
        }
      }),
    )
    const us = cpuUs(server.pid) - cpu,
      elapsed = (performance.now() - begun) / 1000
    for (const writer of writers) writer.end()
    took.sort((a, b) => a - b)
    return {
      appendsPerSecond: took.length / elapsed,
      cpuUsPerAppend: us / took.length,
      ackMs: { p50: took[took.length >> 1], p99: took[Math.floor(took.length * 0.99)] },
    }
  } finally {
    await server.stop()
  }
}
