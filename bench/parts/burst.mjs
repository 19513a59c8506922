// A very fast stream: who still gets every record.
import { load } from "../load.mjs"
import { command, loss } from "../runs.mjs"
import { figure, label, table, time } from "../words.mjs"

export const about = {
  title: "200,000 records/s into one stream, 10 readers",
  what: "Records of 128 B, appended 500 at a time where the server knows batches, else pipelined.",
}

// "full": left out of a quick run.
const SUBJECTS = [
  ["fourfold", "websocket"],
  ["nchan", "websocket", "full"],
  ["fourfold", "sse"],
  ["nchan", "sse", "full"],
  ["fourfold", "portions", "full"],
  ["fourfold", "long-poll"],
  ["durable-streams", "sse", "full"],
  ["fourfold", "short-poll", "full"],
]

export async function run({ quick, measure }) {
  for (const [subject, transport, only] of SUBJECTS) {
    if (quick && only) continue
    const flags = { subscribers: 10, rate: 200_000, batch: 500, inFlight: 4, size: 128, interval: 50, seconds: quick ? 2 : 5, warmUp: 1 }
    await measure({ subject, transport, rate: 200_000 }, () => load(subject, transport, flags))
  }
}

/** The part of the page. */
export function section(runs) {
  return [
    table(
      ["", "appended/s", "delivered/s to 10 readers", "lost", "p50", "p99", "CPU per delivery"],
      runs.map((run) => [
        label(run),
        figure(run.appendedPerSecond),
        figure(run.deliveredPerSecond),
        loss([run]),
        time(run.latencyMs?.p50),
        time(run.latencyMs?.p99),
        figure(run.cpuUsPerDelivery, " µs"),
      ]),
    ),
    command(runs),
  ]
}
