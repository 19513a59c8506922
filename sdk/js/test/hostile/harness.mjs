/**
 * One seed: a writer appends directly, followers read through the proxy, the weather passes, the server is killed and comes
 * back. The verdict is what each follower received against what was acknowledged.
 */
import { DirectWriter, readAll } from "./append.mjs"
import { Proxy } from "./proxy.mjs"
import { Random } from "./random.mjs"
import { difference, SORTS } from "./records.mjs"
import { Schedule } from "./schedule.mjs"
import { Server } from "./server.mjs"
import { portalPage } from "./faults.mjs"

// From the last fault to the end of the iteration: a silent transport is left after 12 s, and the longest wait is 30 s.
const END_MS = 60_000

/**
 * `follower(url, { offset, shared, signal, live })` gives an async iterable of records, and calls `live()` once its place is known.
 * `weather` is what passes, if it is not the schedule of the seed. Resolves with `{ faults, figures }`: no faults, and all is
 * well.
 */
export async function judge({ seed, seconds, follower, sort: name, followers = 4, kills = true, endMs = END_MS, weather: passes, paceMs }) {
  const random = new Random(seed, "harness")
  const sort = SORTS[name ?? random.pick(["json", "json", "text", "binary"])]
  const server = await Server.start()
  const proxy = await Proxy.before(server.url)
  proxy.pages.set("/portal", portalPage)
  const path = `/v1/stream/hostile/${seed}`
  const url = proxy.url + path
  const faults = []
  const stopped = new AbortController()
  try {
    await DirectWriter.create(server.url + path, sort)
    const writer = new DirectWriter(server.url + path, sort, new Random(seed, "writer"))
    const weather = passes ?? new Schedule(seed, seconds * 1_000, { kills })
    const passing = weather.pass(proxy, server)
    const over = new AbortController()
    const writing = writer.appendUntil(over.signal, paceMs)

    // One from the start, one from the tail, the others from a place in the middle, at moments of the seed.
    const readings = ["-1", "now", ...Array(Math.max(0, followers - 2)).fill("middle")].map(async (start, number) => {
      if (number > 0) await pause(random.between(0, seconds * 500))
      const middle = writer.offsets.length > 0 ? random.pick(writer.offsets) : { offset: "-1", count: 0 }
      const offset = start === "middle" ? middle.offset : start
      const starts = start === "middle" ? [middle.count, middle.count] : start === "now" ? [0, Infinity] : [0, 0]
      // Before the place of "now" is known, what was sent meanwhile may or may not be read.
      // Who shares a connection joins where that one stands, which may be behind the tail.
      const shared = random.chance(0.5)
      if (start === "now" && !shared) starts[0] = writer.acked.length
      const live = () => start === "now" && (starts[1] = Math.min(starts[1], writer.sent))
      const received = []
      const reading = (async () => {
        for await (const record of follower(url, { offset, shared, signal: stopped.signal, live })) received.push(sort.comparable(record))
      })()
      const failure = reading.then(
        () => null,
        (error) => `ended by ${error?.stack ?? error}`,
      )
      return { start: `${start} ${offset}${shared ? ", shared" : ""}`, starts, received, failure }
    })

    await passing
    over.abort()
    await writing
    await writer.close()
    proxy.note("--- the stream is closed")
    const closedAt = performance.now()
    const deadline = pause(endMs).then(() => "does not end by itself")
    for (const reading of await Promise.all(readings)) {
      const failure = await Promise.race([reading.failure, deadline])
      if (reading.starts[1] === Infinity) reading.starts[1] = reading.received.length > 0 ? writer.acked.indexOf(reading.received[0]) : 0
      const wrong = difference(writer.acked, reading.received, reading.starts)
      for (const fault of [failure, wrong]) if (fault) faults.push(`from ${reading.start}: ${fault}`)
    }
    const endedMs = Math.round(performance.now() - closedAt)
    const figures = { seed, sort: sort.contentType, records: writer.acked.length, kills: server.kills, drains: server.drains, endedMs, ...proxy.counts, ...follower.tally }
    return { faults, figures, log: proxy.log, phases: weather.phases }
  } finally {
    stopped.abort()
    await proxy.close()
    await server.stop()
  }
}

/**
 * One seed of a stream that keeps only its newest records: what a follower gets and the gaps that it is told must make up the
 * whole, in order. `follower(url, { signal, gap })` gives an async iterable, and calls `gap({ from, to })` before what follows.
 */
export async function judgeGaps({ seed, seconds, follower, followers = 4, kept = 40, endMs = END_MS }) {
  const random = new Random(seed, "gaps")
  const server = await Server.start()
  const proxy = await Proxy.before(server.url)
  proxy.pages.set("/portal", portalPage)
  const path = `/v1/stream/hostile/gaps/${seed}`
  const faults = []
  const stopped = new AbortController()
  let gaps = 0
  try {
    await DirectWriter.create(server.url + path, SORTS.json, { "Stream-Retention-Records": kept })
    const writer = new DirectWriter(server.url + path, SORTS.json, new Random(seed, "writer"))
    const passing = new Schedule(seed, seconds * 1_000).pass(proxy, server)
    const over = new AbortController()
    const writing = writer.appendUntil(over.signal, 4)
    const place = (offset) => Number(offset.split("_")[1])
    const readings = Array.from({ length: followers }, async (_, number) => {
      await pause(random.between(0, seconds * 400))
      let at // The start is the oldest record kept by then: what was before it is in no gap.
      let wrong = null
      const gap = ({ from, to }) => {
        gaps += 1
        if (at !== undefined && place(from) !== at) wrong ??= `a gap from ${from} to ${to} is told at ${at}`
        at = place(to)
      }
      for await (const record of follower(proxy.url + path, { signal: stopped.signal, gap })) {
        at ??= record.n
        if (record.n !== at) wrong ??= `${record.n} came at ${at}`
        at += 1
      }
      return wrong ?? (at === writer.acked.length ? null : `ended at ${at} of ${writer.acked.length}`)
    })
    await passing
    over.abort()
    await writing
    await writer.close()
    const closedAt = performance.now()
    const deadline = pause(endMs).then(() => "does not end by itself")
    for (const [number, reading] of readings.entries()) {
      const wrong = await Promise.race([reading.catch((error) => `ended by ${error?.stack ?? error}`), deadline])
      if (wrong) faults.push(`follower ${number}: ${wrong}`)
    }
    const endedMs = Math.round(performance.now() - closedAt)
    const figures = { seed, records: writer.acked.length, gaps, kills: server.kills, drains: server.drains, endedMs, ...proxy.counts }
    return { faults, figures, log: proxy.log }
  } finally {
    stopped.abort()
    await proxy.close()
    await server.stop()
  }
}

/**
 * One seed of a writer: it appends through the proxy, while the weather passes and the server is killed. What the stream
 * holds then is judged against what it was told. `writer(url)` gives one with `append(record)` and `close()`.
 */
export async function judgeWriter({ seed, seconds, writer: make, kills = true, endMs = END_MS }) {
  const random = new Random(seed, "writer harness")
  const { record, comparable, contentType } = SORTS.json
  const server = await Server.start()
  const proxy = await Proxy.before(server.url)
  const path = `/v1/stream/hostile/writer/${seed}`
  const faults = []
  const stopped = new AbortController()
  try {
    await DirectWriter.create(server.url + path, SORTS.json)
    const writer = make(proxy.url + path, { seed, signal: stopped.signal })
    const passing = new Schedule(seed, seconds * 1_000, { kills }).pass(proxy, server)
    let passed = false
    passing.then(() => (passed = true))
    const asked = []
    const answers = []
    while (!passed) {
      const next = record(asked.length, random)
      asked.push(comparable(next))
      const told = (error) => faults.push(`record ${asked.indexOf(comparable(next))} was refused: ${error?.stack ?? error}`)
      answers.push(writer.append(next).catch(told))
      // Some are awaited, some are asked for in a row.
      if (random.chance(0.05)) await Promise.race([answers.at(-1), passing])
      else if (random.chance(0.6)) await pause(random.between(0, 40))
    }
    const passedAt = performance.now()
    const all = Promise.all([...answers, writer.close()]).then(() => null, (error) => `close: ${error}`)
    const failure = await Promise.race([all, pause(endMs).then(() => `${writer.pending ?? "some"} are never answered`)])
    if (failure) faults.push(failure)
    const endedMs = Math.round(performance.now() - passedAt)
    const wrong = difference(asked, await readAll(server.url + path, SORTS.json), [0, 0])
    if (wrong) faults.push(`in the stream: ${wrong}`)
    const figures = { seed, sort: contentType, records: asked.length, kills: server.kills, drains: server.drains, endedMs, ...proxy.counts }
    return { faults, figures, log: proxy.log }
  } finally {
    stopped.abort()
    await proxy.close()
    await server.stop()
  }
}

function pause(ms) {
  return new Promise((over) => setTimeout(over, ms).unref())
}
