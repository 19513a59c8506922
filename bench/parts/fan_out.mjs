// One stream, many subscribers, one record a wake: what a delivery costs, and when it comes.
import { load } from "../load.mjs"
import { bars, lines } from "../plot.mjs"
import { median } from "../results.mjs"
import { command, grouped, loss, overFloor } from "../runs.mjs"
import { figure, ratio, share, table, time } from "../words.mjs"

export const about = {
  title: "Fan-out: one stream, 1,000 subscribers, 50 records/s of 128 B",
  what: "Everything in memory, as nchan knows nothing else; durability has its own part. Every subscriber reads at once. The bare loop of `write()`, the floor, runs in each round. On a machine that is always busy latencies are those of its queue, and records that come while a long poll is on its way share an answer.",
}

// The peers alternate, so that what changes on the machine meanwhile meets all of them.
const SUBJECTS = [
  ["floor", "websocket"],
  ["fourfold", "websocket"],
  ["nchan", "websocket"],
  ["fourfold", "sse"],
  ["nchan", "sse"],
  ["durable-streams", "sse"],
  ["fourfold", "long-poll"],
  ["nchan", "long-poll"],
  ["durable-streams", "long-poll"],
  ["socket.io", "websocket"],
]

export async function run({ quick, rounds, measure }) {
  const flags = { subscribers: 1000, rate: 50, size: 128, seconds: quick ? 2 : 6, warmUp: 1 }
  for (let round = 0; round < rounds; round++) {
    for (const [subject, transport] of SUBJECTS) await measure({ round, subject, transport }, () => load(subject, transport, flags))
  }
}

/** The part of the page. */
export function section(runs, plot) {
  const groups = grouped(runs)
  const rows = groups.map(([name, of]) => [
    name,
    figure(median(of.map((run) => run.cpuUsPerDelivery)), " µs"),
    ratio(median(of.map((run) => overFloor(runs, run)))),
    ...["p50", "p90", "p99", "p999"].map((p) => time(median(of.map((run) => run.latencyMs?.[p])))),
    figure(median(of.map((run) => run.bytesPerDelivery)), " B"),
    figure(median(of.map((run) => run.requestsPerDelivery))),
    share(median(of.map((run) => run.busy))),
    loss(of),
  ])
  const ranked = groups
    .map(([name, of]) => ({ name, value: median(of.map((run) => overFloor(runs, run))), colour: of[0].subject === "fourfold" ? 0 : 5 }))
    .sort((a, b) => a.value - b.value)
    .map((row) => ({ ...row, note: ratio(row.value) }))
  return [
    table(
      [
        "",
        "CPU per delivery",
        "over the floor",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "wire per delivery",
        "requests per delivery",
        "machine busy",
        "lost",
      ],
      rows,
    ),
    command(runs),
    plot(
      "cpu-per-delivery",
      bars({
        title: "CPU per delivery, one record a wake",
        x: { label: "times the floor" },
        rows: ranked,
        mark: { value: 1, label: "floor" },
      }),
    ),
    plot(
      "latency",
      lines({
        title: "Latency of deliveries",
        x: { label: "percentile of deliveries (logarithmic towards 100 %)", log: true, ticks: [2, 10, 100, 1000, 10_000], format: nines },
        y: { label: "latency, ms", log: true },
        series: groups.map(([name, of]) => ({ name, dashed: name === "floor", points: curve(of) })),
      }),
    ),
  ]
}

function nines(value) {
  return `${Number((100 - 100 / value).toFixed(2))} %`
}

/** Percentiles as [1 / (1 - p), ms], the median over rounds. */
function curve(runs) {
  const at = [
    ["p50", 2],
    ["p75", 4],
    ["p90", 10],
    ["p95", 20],
    ["p99", 100],
    ["p999", 1000],
    ["p9999", 10_000],
  ]
  return at.map(([name, x]) => [x, median(runs.map((run) => run.latencyMs?.[name]))])
}
