// Short polls that find nothing new: what each costs, and so what an idle poller costs at which interval.
import { load } from "../load.mjs"
import { lines } from "../plot.mjs"
import { median } from "../results.mjs"
import { command, grouped, points } from "../runs.mjs"
import { figure, percent, table } from "../words.mjs"

export const about = {
  title: "Idle short polls",
  what: "200 pollers of one stream to which nothing is appended; every answer but the first is a 304.",
}

const POLLERS = 200

export async function run({ quick, rounds, measure }) {
  for (let round = 0; round < Math.min(rounds, 2); round++) {
    for (const interval of quick ? [100] : [50, 100, 250, 1000]) {
      for (const subject of ["fourfold", "nchan", "durable-streams"]) {
        const flags = { subscribers: 0, idle: POLLERS, writers: 0, interval, seconds: quick ? 2 : 4, warmUp: 1 }
        await measure({ round, subject, transport: "short-poll", interval }, () => load(subject, "short-poll", flags))
      }
    }
  }
}

/** The part of the page. */
export function section(runs, plot) {
  const groups = grouped(runs),
    at = [...new Set(runs.map((run) => run.interval))].sort((a, b) => a - b)
  const each = (of, interval) => of.filter((run) => run.interval === interval)
  return [
    table(
      ["CPU per request, at an interval of", ...at.map((ms) => `${ms} ms`)],
      groups.map(([name, of]) => [name, ...at.map((ms) => figure(median(each(of, ms).map((run) => run.cpuUsPerRequest)), " µs"))]),
    ),
    command(runs),
    plot(
      "idle-poller",
      lines({
        title: "What 1,000 idle pollers cost",
        x: { label: "interval, ms", log: true, ticks: at },
        y: { label: "CPU, percent of one core", log: true },
        series: groups.map(([name, of]) => ({
          name,
          points: points(of, "interval", (run) => ((run.cpuUsPerRequest * ((1000 * 1000) / run.interval)) / 1e6) * 100),
        })),
      }),
    ),
  ]
}
