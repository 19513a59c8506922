// What has been measured: one JSON file a part under target/bench, written after every measurement, so that a run that is
// cut has not been for nothing.
import { execFileSync } from "node:child_process"
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { cpus, release, totalmem } from "node:os"
import { join } from "node:path"
import { OUT, ROOT } from "./servers.mjs"

/** The results of a part as they grow. */
export function begin(part, about, profile) {
  const results = {
    part,
    profile,
    command: `bench/peers ${profile === "quick" ? "--quick " : ""}${part}`,
    startedAt: new Date().toISOString(),
    machine: machine(),
    about,
    runs: [],
    failures: [],
  }
  const save = () => {
    mkdirSync(OUT, { recursive: true })
    writeFileSync(path(part), `${JSON.stringify(results, undefined, 1)}\n`)
  }
  return { results, save }
}

/** The last results of a part, or undefined. */
export function last(part) {
  return existsSync(path(part)) ? JSON.parse(readFileSync(path(part), "utf8")) : undefined
}

export function median(values) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b)
  if (sorted.length === 0) return NaN
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

function path(part) {
  return join(OUT, `${part}.json`)
}

function machine() {
  return {
    cpus: cpus().length,
    cpu: cpus()[0]?.model ?? "unknown",
    kernel: release(),
    memoryGib: Math.round(totalmem() / 2 ** 30),
    congestion: read("/proc/sys/net/ipv4/tcp_congestion_control"),
    versions: {
      fourfold: fourfold(),
      nginx: said("nginx", ["-v"], /nginx\/([\d.]+)/),
      nchan: said("dpkg-query", ["-W", "-f", "${Version}", "libnginx-mod-nchan"], /(?:\d+:)?([\d.]+)/),
      "durable-streams": "0.1.5",
      "socket.io": json("bench/package.json")?.dependencies["socket.io"],
      node: process.version,
    },
  }
}

/** The commit, and whether it was changed; another binary by its name. */
function fourfold() {
  if (process.env.FOURFOLD_SERVER) return "a binary that FOURFOLD_SERVER names"
  const changed = said("git", ["status", "--porcelain", "--", "crates", "Cargo.toml", "Cargo.lock"], /(\S)/)
  return `${said("git", ["rev-parse", "--short=7", "HEAD"])}${changed ? " and uncommitted changes" : ""}`
}

function said(command, args, pattern = /(.*)/) {
  try {
    // nginx says its version on standard error.
    const out = execFileSync("sh", ["-c", '"$0" "$@" 2>&1', command, ...args], { cwd: ROOT, encoding: "utf8", timeout: 5_000 })
    return pattern.exec(out)?.[1]
  } catch {
    return undefined
  }
}

function json(name) {
  try {
    return JSON.parse(readFileSync(join(ROOT, name), "utf8"))
  } catch {
    return undefined
  }
}

function read(name) {
  try {
    return readFileSync(name, "utf8").trim()
  } catch {
    return undefined
  }
}
