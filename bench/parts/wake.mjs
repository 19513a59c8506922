// What several records at one wake save: CPU per delivery against records a wake.
import { load } from "../load.mjs"
import { lines } from "../plot.mjs"
import { median } from "../results.mjs"
import { command, grouped, overFloor, points } from "../runs.mjs"
import { figure, ratio, table } from "../words.mjs"

export const about = {
  title: "Records a wake: 200 subscribers, 25 wakes a second, 1 to 16 records of 128 B each",
  what: "The records of a wake are appended in one step, where the server knows that (a JSON array), else one behind the other on one connection. The floor puts them into one `write()`.",
}

// "full": left out of a quick run.
const SUBJECTS = [
  ["floor", "websocket"],
  ["fourfold", "websocket"],
  ["nchan", "websocket"],
  ["fourfold", "sse"],
  ["durable-streams", "sse", "full"],
  ["fourfold", "long-poll", "full"],
  ["nchan", "sse", "full"],
]

export async function run({ quick, rounds, measure }) {
  for (let round = 0; round < rounds; round++) {
    // The goal is at 8, so that is measured in every round.
    for (const wake of quick || round > 0 ? [8] : [1, 2, 4, 8, 16]) {
      for (const [subject, transport, only] of SUBJECTS) {
        if (quick && only) continue
        const flags = { subscribers: 200, rate: 25 * wake, batch: wake, size: 128, seconds: quick ? 2 : 3, warmUp: 1 }
        await measure({ round, subject, transport, wake }, () => load(subject, transport, flags))
      }
    }
  }
}

/** The part of the page. */
export function section(runs, plot) {
  const groups = grouped(runs),
    at = [...new Set(runs.map((run) => run.wake))].sort((a, b) => a - b)
  const rows = groups.map(([name, of]) => [
    name,
    ...at.flatMap((wake) => {
      const here = of.filter((run) => run.wake === wake)
      const us = median(here.map((run) => run.cpuUsPerDelivery)),
        over = median(here.map((run) => overFloor(runs, run, "wake")))
      return `${figure(us, " µs")}${name === "floor" || !Number.isFinite(over) ? "" : ` (${ratio(over)})`}`
    }),
  ])
  return [
    table(["records a wake", ...at.map(String)], rows),
    command(runs),
    plot(
      "records-a-wake",
      lines({
        title: "CPU per delivery against records a wake",
        x: { label: "records a wake", log: true, ticks: at },
        y: { label: "CPU per delivery, µs", log: true },
        series: groups.map(([name, of]) => ({ name, dashed: name === "floor", points: points(of, "wake", (run) => run.cpuUsPerDelivery) })),
      }),
    ),
  ]
}
