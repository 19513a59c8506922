// Loads a server with `fourfold bench` and takes from its JSON the figures that the pages speak of. The only file that knows that
// command's flags and results.
import { spawn } from "node:child_process"
import { existsSync, readFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import { FOURFOLD, OUT, start } from "./servers.mjs"

const BENCH = process.env.FOURFOLD_BENCH ?? FOURFOLD
const PROFILES = { fourfold: "fourfold", nchan: "nchan", "durable-streams": "durable-streams", "socket.io": "socketio" }
const SETTLE_MS_MAX = 90_000 // To connect, to warm up, to end; beside the measured time.

/**
 * Starts the server, loads it, ends it. `flags` are those of `fourfold bench`, in camelCase; `options` those of servers.mjs.
 * Errors: a server that does not start, a run that fails or does not end.
 */
export async function load(subject, transport, flags, options = {}) {
  if (subject === "floor") return bench(["--floor", "--floor-command", join(OUT, "floor")], transport, flags)
  const server = await start(subject, options)
  try {
    return await bench([server.url, "--server-pid", String(server.pid), "--profile", PROFILES[subject]], transport, flags)
  } finally {
    await server.stop()
  }
}

async function bench(target, transport, flags) {
  const file = join(OUT, `load-${process.pid}.json`)
  const typed = Object.entries(flags).flatMap(([name, value]) => [
    `--${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`,
    String(value),
  ])
  const args = ["bench", ...target, "--transport", transport, ...typed, "--json", file]
  rmSync(file, { force: true })
  const child = spawn(BENCH, args, { stdio: ["ignore", "ignore", "pipe"] })
  let said = ""
  child.stderr.on("data", (piece) => {
    said = (said + piece).slice(-2000)
  })
  const timer = setTimeout(() => child.kill("SIGKILL"), (flags.seconds ?? 10) * 1000 + SETTLE_MS_MAX)
  const status = await new Promise((resolve, reject) => {
    child.on("error", reject)
    child.on("close", resolve)
  })
  clearTimeout(timer)
  if (!existsSync(file)) throw new Error(`fourfold bench ended with ${status ?? "a signal"}: ${said.trim().split("\n").at(-1) ?? ""}`)
  const results = JSON.parse(readFileSync(file, "utf8"))
  rmSync(file)
  return { ...figures(results), load: `fourfold ${["bench", ...target.map(anonymous), "--transport", transport, ...typed].join(" ")}` }
}

/** What the pages use of a run, in their units. */
function figures(results) {
  const { appended, delivered, wire, connections, server, idle, generator } = results
  return {
    // The measured time ends with the last append, which may be due before the time that was asked for.
    seconds: appended?.perSecond > 0 ? appended.measured / appended.perSecond : results.plan.seconds,
    appendedPerSecond: appended?.perSecond,
    appendsPerSecond: appended ? appended.perSecond / results.plan.batch : undefined,
    unsent: appended?.unsent,
    busy: results.machine?.busy ?? undefined,
    others: others(results),
    refused: (appended?.refused ?? 0) + (appended?.unanswered ?? 0),
    deliveries: delivered.measured,
    deliveredPerSecond: delivered.perSecond,
    lost: delivered.lost,
    doubled: delivered.duplicates,
    disordered: delivered.outOfOrder + delivered.cut,
    brokenConnections: connections.failed + connections.ended + connections.refused,
    cpuUs: server?.cpuMicros,
    cpuUsPerDelivery: server?.cpuMicrosPerDelivery ?? undefined,
    cpuUsPerAppend: server?.cpuMicrosPerAppend ?? undefined,
    cpuUsPerRequest: server?.cpuMicrosPerRequest ?? undefined,
    requests: wire.requests,
    requestsPerDelivery: wire.requestsPerDelivery ?? undefined,
    bytesPerDelivery: wire.requestsPerDelivery === null ? undefined : wire.bytesReceivedPerDelivery + wire.bytesSentPerDelivery,
    idleBytes: server?.pssBytesPerIdle ?? undefined,
    idleAnswered: idle?.answered,
    pssEndBytes: server?.pssBytesAtEnd,
    generatorUsPerDelivery: generator.cpuMicrosPerDelivery ?? undefined,
    latencyMs: latency(delivered.latency),
    ackMs: latency(appended?.latency),
    firstError: results.firstError ?? undefined,
  }
}

/** The share of the machine that neither the server nor the load took: what else ran on it. Known where there were deliveries. */
function others({ machine, server, generator, delivered }) {
  if (!machine?.busy || !server?.cpuMicrosPerDelivery || !(delivered.perSecond > 0)) return undefined
  const seconds = server.cpuMicros / server.cpuMicrosPerDelivery / delivered.perSecond
  return Math.max(0, machine.busy - (server.cpuMicros + generator.cpuMicros) / 1e6 / seconds / machine.cores)
}

/** Percentiles in milliseconds. */
function latency(found) {
  if (!found) return undefined
  const at = (quantile) => (found.distribution.find(([q]) => q >= quantile) ?? found.distribution.at(-1))[1] / 1000
  const [p50, p90, p99, p999] = [found.p50, found.p90, found.p99, found.p999].map((us) => us / 1000)
  // A tail of which fewer than ten records are known is not shown.
  return {
    p50,
    p75: at(0.75),
    p90,
    p95: at(0.95),
    p99,
    p999,
    p9999: found.count >= 100_000 ? at(0.9999) : undefined,
    max: found.max / 1000,
    mean: found.mean / 1000,
  }
}

/** A command as a reader can repeat it: ports, process ids and paths of this run are left out. */
function anonymous(word) {
  return /^http:/.test(word)
    ? "URL"
    : /^\d+$/.test(word)
      ? "PID"
      : word.startsWith("/")
        ? word.slice(OUT.length - "target/bench".length)
        : word
}
