// The goals that we set ourselves, and what this run says about each.
import { median } from "../results.mjs"
import { bytes, figure, percent, ratio, table, time, TRANSPORTS } from "../words.mjs"
import { harm } from "../parts/stalled.mjs"
import { overFloor } from "../runs.mjs"

const OURS = ["websocket", "sse", "long-poll"]
const IDLE_BYTES_MAX = 1024
const START_SECONDS_MAX = 5
const STALLED_BYTES_MAX = 256 * 1024 // What the kernel takes for a socket that nobody reads, with its bookkeeping.

/** The table; goals whose part was not measured are left out. */
export function goals(parts) {
  const rows = [
    ...fanOut(parts.fan_out),
    ...wake(parts.wake),
    ...idle(parts.idle),
    ...poll(parts.poll),
    ...append(parts.append),
    ...burst(parts.burst),
    ...stalled(parts.stalled),
    ...cold(parts.cold),
    ...catchUp(parts.catch_up),
  ]
  if (rows.length === 0) return ""
  return `## Our own goals\n\n${table(
    ["", "goal", "here", ""],
    rows.map(([what, goal, here, met]) => [what, goal, here, here.startsWith("–") ? "not measured" : met ? "met" : "**missed**"]),
    4,
  )}`
}

function fanOut(part) {
  if (!part) return []
  const { runs } = part
  const mid = (subject, transport, value) => median(runs.filter((run) => run.subject === subject && run.transport === transport).map(value))
  const over = (subject, transport) => mid(subject, transport, (run) => overFloor(runs, run))
  const rows = OURS.map((transport) => {
    const max = transport === "long-poll" ? 1.9 : 1.15,
      value = over("fourfold", transport)
    return [`${TRANSPORTS[transport]}, CPU per delivery`, `at most ${max} × the floor`, ratio(value), value <= max]
  })
  for (const transport of OURS) {
    const peers = [...new Set(runs.map((run) => run.subject))].filter((subject) => !["floor", "fourfold"].includes(subject))
    const best = Math.min(...peers.map((subject) => over(subject, transport)).filter(Number.isFinite))
    if (Number.isFinite(best))
      rows.push([
        `${TRANSPORTS[transport]}, CPU per delivery`,
        `below the best peer's ${ratio(best)}`,
        ratio(over("fourfold", transport)),
        over("fourfold", transport) < best,
      ])
  }
  const floorP99 = mid("floor", "websocket", (run) => run.latencyMs?.p99)
  for (const transport of OURS) {
    const p99 = mid("fourfold", transport, (run) => run.latencyMs?.p99)
    rows.push([`${TRANSPORTS[transport]}, p99`, `at most the floor's + 10 % (${time(floorP99 * 1.1)})`, time(p99), p99 <= floorP99 * 1.1])
  }
  return rows
}

function wake(part) {
  if (!part) return []
  return ["websocket", "sse"].map((transport) => {
    const value = median(
      part.runs
        .filter((run) => run.subject === "fourfold" && run.transport === transport && run.wake === 8)
        .map((run) => overFloor(part.runs, run, "wake")),
    )
    return [`${TRANSPORTS[transport]}, 8 records a wake`, "at most 1.5 × a floor that coalesces too", ratio(value), value <= 1.5]
  })
}

function idle(part) {
  if (!part) return []
  const most = Math.max(...part.runs.map((run) => run.connections))
  return OURS.map((transport) => {
    const value =
      part.runs.find((run) => run.subject === "fourfold" && run.transport === transport && run.connections === most)?.idleBytes ?? NaN
    return [
      `idle ${TRANSPORTS[transport]}, at ${most.toLocaleString("en-GB")}`,
      `at most ${bytes(IDLE_BYTES_MAX)}`,
      bytes(value),
      value <= IDLE_BYTES_MAX,
    ]
  })
}

function poll(part) {
  if (!part) return []
  const of = (subject) => median(part.runs.filter((run) => run.subject === subject).map((run) => run.cpuUsPerRequest))
  return [
    [
      "idle short poll, CPU per request",
      `below nchan's ${figure(of("nchan"), " µs")}`,
      figure(of("fourfold"), " µs"),
      of("fourfold") < of("nchan"),
    ],
  ]
}

function append(part) {
  if (!part) return []
  return [
    ["streams", "4 in flight on each of 16 connections"],
    ["connections", "one in flight on each of 64 connections"],
  ].flatMap(([shape, how]) => {
    const of = (subject, value) => median(part.runs.filter((run) => run.subject === subject && run.shape === shape).map(value))
    const faster = of("fourfold", (run) => run.appendsPerSecond) / of("durable-streams", (run) => run.appendsPerSecond)
    if (!Number.isFinite(faster)) return []
    const [ours, theirs] = ["fourfold", "durable-streams"].map((subject) => of(subject, (run) => run.cpuUsPerAppend))
    return [
      [`durable append and delivery, ${how}: rate`, "at least 1.5 × durable-streams", ratio(faster), faster >= 1.5],
      ["the same: CPU", `below durable-streams' ${figure(theirs, " µs")}`, figure(ours, " µs"), ours < theirs],
    ]
  })
}

function burst(part) {
  if (!part) return []
  return part.runs
    .filter((run) => run.subject === "fourfold")
    .map((run) => {
      const rate = run.appendedPerSecond
      return [
        `200,000 records/s, 10 readers, ${TRANSPORTS[run.transport]}`,
        "all of them, none lost",
        `${figure(rate)}/s, ${figure(run.lost)} lost`,
        rate >= 0.98 * run.rate && run.lost === 0,
      ]
    })
}

function stalled(part) {
  if (!part) return []
  return OURS.filter((transport) => part.runs.some((run) => run.subject === "fourfold" && run.transport === transport)).flatMap(
    (transport) => {
      const { appends, p99, bytes: each } = harm(part.runs, "fourfold", transport)
      const name = `100 stalled readers, ${TRANSPORTS[transport]}`
      return [
        [name, "appends/s: less than 5 % lost", percent(appends), appends > -0.05],
        [name, "the others' p99: less than 5 % more", percent(p99), p99 < 0.05],
        [name, `at most the socket buffer each (${bytes(STALLED_BYTES_MAX)})`, bytes(each), each <= STALLED_BYTES_MAX],
      ]
    },
  )
}

function cold(part) {
  const run = part?.runs.find((each) => each.subject === "fourfold")
  if (!run) return []
  return [
    [
      `start with ${run.streams.toLocaleString("en-GB")} streams`,
      `under ${START_SECONDS_MAX} s`,
      figure(run.startMs / 1000, " s"),
      run.startMs < START_SECONDS_MAX * 1000,
    ],
  ]
}

function catchUp(part) {
  if (!part) return []
  const ours = part.runs.filter((run) => run.subject === "fourfold")
  if (ours.length === 0) return []
  const grown = Math.max(...ours.map((run) => run.pssPeak - run.pssBefore)),
    read = Math.max(...ours.map((run) => run.bytes))
  if (read < 1e9) return [] // A quick run: of so little even a constant is much.
  return [[`catch-up of ${bytes(read)}, memory`, "flat: grows by less than a tenth of it", bytes(grown), grown < read / 10]]
}
