// How the cost of a delivery grows with subscribers and with streams, at the same number of deliveries a second.
import { load } from "../load.mjs"
import { lines } from "../plot.mjs"
import { command, grouped, points } from "../runs.mjs"
import { figure, table, time } from "../words.mjs"

export const about = {
  title: "Growth with subscribers and with streams, at 20,000 deliveries/s",
  what: "First one stream and ever more subscribers, then 1,000 subscribers over ever more streams, each stream with a writer of its own, so that with 1,000 streams every delivery has an append of its own in its CPU time. Records of 128 B, in memory.",
}

const DELIVERIES = 20_000
// "full": left out of a quick run.
const SUBJECTS = [
  ["floor", "websocket"],
  ["fourfold", "websocket"],
  ["nchan", "websocket"],
  ["fourfold", "sse", "full"],
  ["durable-streams", "sse", "full"],
]

export async function run({ quick, measure }) {
  const seconds = quick ? 2 : 4
  for (const subscribers of quick ? [2500] : [100, 500, 1000, 2500, 10_000]) {
    for (const [subject, transport, only] of SUBJECTS) {
      if (quick && only) continue
      const flags = { subscribers, rate: DELIVERIES / subscribers, size: 128, seconds, warmUp: 1 }
      await measure({ subject, transport, subscribers }, () => load(subject, transport, flags))
    }
  }
  for (const streams of quick ? [100] : [1, 10, 100, 1000]) {
    for (const [subject, transport, only] of SUBJECTS.slice(1)) {
      if (quick && only) continue
      const flags = { subscribers: 1000, streams, rate: DELIVERIES / 1000, size: 128, seconds, warmUp: 1 }
      await measure({ subject, transport, streams }, () => load(subject, transport, flags))
    }
  }
}

/** The part of the page. */
export function section(runs, plot) {
  const out = []
  for (const [axis, what] of [
    ["subscribers", "subscribers of one stream"],
    ["streams", "streams, 1,000 subscribers over all"],
  ]) {
    const here = runs.filter((run) => run[axis])
    if (here.length === 0) continue
    const groups = grouped(here),
      at = [...new Set(here.map((run) => run[axis]))].sort((a, b) => a - b)
    out.push(
      table(
        [what, ...at.map((n) => n.toLocaleString("en-GB"))],
        groups.map(([name, of]) => [
          name,
          ...at.map((n) => {
            const run = of.find((each) => each[axis] === n)
            return run ? `${figure(run.cpuUsPerDelivery, " µs")}, p99 ${time(run.latencyMs?.p99)}` : "–"
          }),
        ]),
      ),
    )
    out.push(command(here))
    out.push(
      plot(
        `growth-${axis}`,
        lines({
          title: `CPU per delivery against ${axis}, at 20,000 deliveries/s`,
          x: { label: what, log: true, ticks: at },
          y: { label: "CPU per delivery, µs" },
          series: groups.map(([name, of]) => ({ name, dashed: name === "floor", points: points(of, axis, (run) => run.cpuUsPerDelivery) })),
        }),
      ),
    )
  }
  return out
}
