// What a connection costs that only waits: process memory, by number of connections.
import { load } from "../load.mjs"
import { lines } from "../plot.mjs"
import { command, grouped, points } from "../runs.mjs"
import { bytes, table } from "../words.mjs"

export const about = {
  title: "Idle connections: process memory",
  what: "Growth of the PSS of the server's process tree over its connections, after the first ones have paid for what all share. The kernel's socket memory is alike for all and not counted.",
}

// "full": left out of a quick run.
const SUBJECTS = [
  ["fourfold", "websocket"],
  ["nchan", "websocket"],
  ["fourfold", "sse"],
  ["nchan", "sse", "full"],
  ["durable-streams", "sse"],
  ["fourfold", "long-poll"],
  ["nchan", "long-poll", "full"],
  ["durable-streams", "long-poll"],
  ["socket.io", "websocket", "full"],
]

export async function run({ quick, measure }) {
  for (const connections of quick ? [10_000] : [1000, 3000, 10_000]) {
    for (const [subject, transport, only] of SUBJECTS) {
      if (quick && only) continue
      const flags = { subscribers: 0, idle: connections, writers: 0, seconds: 1, warmUp: 0 }
      await measure({ subject, transport, connections }, () => load(subject, transport, flags))
    }
  }
}

/** The part of the page. */
export function section(runs, plot) {
  const groups = grouped(runs),
    at = [...new Set(runs.map((run) => run.connections))].sort((a, b) => a - b)
  return [
    table(
      ["bytes each, at", ...at.map((n) => `${n.toLocaleString("en-GB")} connections`)],
      groups.map(([name, of]) => [name, ...at.map((n) => bytes(of.find((run) => run.connections === n)?.idleBytes))]),
    ),
    command(runs),
    plot(
      "idle-memory",
      lines({
        title: "Memory of idle connections",
        x: { label: "connections", log: true, ticks: at },
        y: { label: "process memory of all connections, MB", log: true },
        series: groups.map(([name, of]) => ({ name, points: points(of, "connections", (run) => (run.idleBytes * run.connections) / 1e6) })),
      }),
    ),
  ]
}
