// How fast appends are acknowledged, durably where the server can.
import { load } from "../load.mjs"
import { lines } from "../plot.mjs"
import { median } from "../results.mjs"
import { command, loss, points } from "../runs.mjs"
import { figure, SUBJECTS, table, time } from "../words.mjs"

export const about = {
  title: "Appends: as fast as they are acknowledged",
  what: "Records of 128 B. Ours and ElectricSQL's server sync each append to the disk before they answer; nchan has no disk. First 16 streams, 64 appends in flight and one SSE subscriber a stream: once as one connection a stream with 4 behind each other, once as 4 connections with one each; then one stream and ever more writers with one append in flight each, nobody reading.",
}

const DURABLE = {
  fourfold: { engine: "embedded" },
  nchan: {},
  "durable-streams": { durability: "wal" },
}

// Connections a stream; four appends are in flight on all of them together.
const WRITERS = { streams: 1, connections: 4 }

export async function run({ quick, rounds, measure }) {
  const seconds = quick ? 2 : 5
  for (let round = 0; round < rounds; round++) {
    for (const [subject, options] of Object.entries(DURABLE)) {
      for (const [shape, writers] of Object.entries(WRITERS)) {
        const flags = { subscribers: 16, streams: 16, writers, inFlight: 4 / writers, rate: 0, size: 128, seconds, warmUp: 1 }
        await measure({ round, subject, transport: "sse", shape }, () => load(subject, "sse", flags, options))
      }
    }
  }
  for (const writers of quick ? [64] : [1, 4, 16, 64, 256]) {
    for (const [subject, options] of Object.entries(DURABLE)) {
      const flags = { subscribers: 0, writers, rate: 0, size: 128, seconds, warmUp: 1 }
      await measure({ subject, transport: "sse", shape: "writers", writers }, () => load(subject, "sse", flags, options))
    }
  }
}

/** The part of the page. */
export function section(runs, plot) {
  const growing = runs.filter((run) => run.shape === "writers")
  const kind = { fourfold: "synced", "durable-streams": "synced", nchan: "not on disk" }
  const out = []
  for (const [shape, writers] of Object.entries(WRITERS)) {
    const many = runs.filter((run) => run.shape === shape)
    if (many.length === 0) continue
    out.push(
      table(
        [
          `16 streams, ${writers === 1 ? "one connection each, 4 in flight" : "4 connections each, one in flight"}`,
          "acknowledged",
          "appends/s",
          "CPU per append and its delivery",
          "acknowledged p50",
          "p99",
          "delivered p50",
          "p99",
          "lost",
        ],
        Object.keys(kind)
          .filter((subject) => many.some((run) => run.subject === subject))
          .map((subject) => {
            const of = many.filter((run) => run.subject === subject),
              mid = (value) => median(of.map(value))
            return [
              SUBJECTS[subject],
              kind[subject],
              figure(mid((run) => run.appendsPerSecond)),
              figure(
                mid((run) => run.cpuUsPerAppend),
                " µs",
              ),
              time(mid((run) => run.ackMs?.p50)),
              time(mid((run) => run.ackMs?.p99)),
              time(mid((run) => run.latencyMs?.p50)),
              time(mid((run) => run.latencyMs?.p99)),
              loss(of),
            ]
          }),
      ),
      command(many),
    )
  }
  if (growing.length > 0) {
    const at = [...new Set(growing.map((run) => run.writers))].sort((a, b) => a - b)
    const series = Object.keys(kind).map((subject) => ({
      name: `${SUBJECTS[subject]}, ${kind[subject]}`,
      points: points(
        growing.filter((run) => run.subject === subject),
        "writers",
        (run) => run.appendsPerSecond,
      ),
    }))
    out.push(
      table(
        ["appends/s of one stream, writers", ...at.map(String)],
        series.map(({ name, points: all }) => [name, ...at.map((n) => figure(all.find(([x]) => x === n)?.[1]))]),
      ),
      command(growing),
    )
    out.push(
      plot(
        "appends",
        lines({
          title: "Appends against writers, one in flight each",
          x: { label: "writers", log: true, ticks: at },
          y: { label: "acknowledged appends/s", log: true },
          series,
        }),
      ),
    )
  }
  return out
}
