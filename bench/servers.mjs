// The servers that are measured: how each is started, reached and ended. To add one: an entry in `servers`, and a way to load
// it in load.mjs.
import { spawn } from "node:child_process"
import { mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { tree } from "./process.mjs"

const HERE = import.meta.dirname
export const ROOT = join(HERE, "..")
export const OUT = join(ROOT, "target/bench")
export const FOURFOLD = process.env.FOURFOLD_SERVER ?? join(ROOT, "target/release/fourfold")
const START_MS_MAX = 120_000
const END_MS_MAX = 30_000 // ElectricSQL's server takes 12 s to end with a connection open; a million streams are flushed first.

/** Name → (options, directory, port) → [command, ...arguments]. */
const servers = {
  fourfold: ({ engine = "memory", threads, flags = [] }, dir, port) => [
    FOURFOLD,
    "serve",
    "--listen",
    `127.0.0.1:${port}`,
    "--engine",
    engine,
    "--data-dir",
    join(dir, "data"),
    "--log",
    "warn",
    ...(threads ? ["--threads", String(threads)] : []),
    ...flags,
  ],
  floor: ({ subscribers, rate, seconds, size, coalesce = 1, shape = "push" }, _dir, port) =>
    [join(OUT, "floor"), subscribers, rate, seconds, size, coalesce, shape, port].map(String),
  nchan: (_options, dir, port) => {
    const fill = { DIR: dir, PORT: port, FILES: 65_000 }
    const conf = readFileSync(join(HERE, "nchan.conf"), "utf8").replace(/@(\w+)@/g, (_, name) => fill[name])
    writeFileSync(join(dir, "nginx.conf"), conf)
    return ["nginx", "-c", join(dir, "nginx.conf"), "-p", dir]
  },
  "durable-streams": ({ durability = "memory" }, dir, port) => [
    join(ROOT, "target/peers/bin/durable-streams-server"),
    "--port",
    String(port),
    "--data-dir",
    join(dir, "data"),
    "--durability",
    durability,
    "--long-poll-timeout-ms",
    "60000",
  ],
  // A plain reverse proxy before `upstream`, a port, that passes on what comes as it comes.
  nginx: ({ upstream }, dir, port) => {
    const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${dir}/${name};`).join(" ")
    const pass = `proxy_pass http://127.0.0.1:${upstream}; proxy_http_version 1.1; proxy_buffering off;`
    const http = `access_log off; tcp_nodelay on; ${temporary} server { listen 127.0.0.1:${port}; location / { ${pass} } }`
    const main = `daemon off; worker_processes 1; pid ${dir}/nginx.pid; error_log ${dir}/error.log error;`
    writeFileSync(join(dir, "nginx.conf"), `${main} events {} http { ${http} }\n`)
    return ["nginx", "-c", join(dir, "nginx.conf"), "-p", dir]
  },
  "socket.io": (_options, _dir, port) => [process.execPath, join(HERE, "socket_io.mjs"), String(port)],
}

const running = new Set()

// If this process ends without having ended them. Not by SIGKILL: nginx would leave its worker behind.
process.on("exit", () => {
  for (const { child } of running) child.kill("SIGTERM")
})

/** Starts a server on a free loopback port, in a directory of its own. Ended by `stop()`, or with this process. */
export async function start(name, options = {}) {
  const dir = options.dir ?? scratch(name)
  const port = await freePort()
  const [command, ...args] = servers[name](options, dir, port)
  const log = join(OUT, `${name}.log`)
  const child = spawn(command, args, { stdio: ["ignore", openSync(log, "w"), openSync(log, "a")], cwd: dir })
  const server = { name, options, dir, port, url: `http://127.0.0.1:${port}`, pid: child.pid, child, command: [command, ...args] }
  let failed
  child.on("error", (error) => {
    failed = error
  })
  server.ended = new Promise((resolve) => {
    child.on("exit", resolve)
    child.on("error", resolve)
  })
  server.stop = () => stop(server)
  running.add(server)
  const begun = performance.now()
  while (!(await listens(port))) {
    if (failed || child.exitCode !== null || performance.now() - begun > START_MS_MAX) {
      await stop(server)
      throw new Error(`${name} did not start: ${failed?.message ?? readFileSync(log, "utf8").slice(-400)}`)
    }
    await sleep(5)
  }
  server.startMs = performance.now() - begun
  return server
}

/** Ends all that still runs: for the end of this process, whatever the reason. */
export function stopAll() {
  return Promise.all([...running].map(stop))
}

async function stop(server) {
  if (!running.delete(server)) return
  const { child } = server
  const all = child.pid ? tree(child.pid) : []
  child.kill("SIGTERM")
  await Promise.race([server.ended, sleep(END_MS_MAX, undefined, { ref: false })])
  if (child.exitCode === null && child.signalCode === null) {
    // Only what was started here: the process and those that it started.
    for (const pid of all)
      try {
        process.kill(pid, "SIGKILL")
      } catch {
        /* it has ended */
      }
    await server.ended
  }
  if (!server.options.dir) rmSync(server.dir, { recursive: true, force: true })
}

/** A new directory for what a server keeps longer than it runs. The caller removes it. */
export function scratch(name) {
  mkdirSync(OUT, { recursive: true })
  return mkdtempSync(join(OUT, `${name}-`))
}

/** Bytes of all files below a directory. */
export function diskBytes(dir) {
  let bytes = 0
  for (const entry of readdirSync(dir, { withFileTypes: true, recursive: true })) {
    // By blocks, as journals are allocated ahead.
    if (entry.isFile()) bytes += statBytes(join(entry.parentPath ?? entry.path, entry.name))
  }
  return bytes
}

function statBytes(path) {
  try {
    return statSync(path).blocks * 512
  } catch {
    return 0
  }
}

function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createServer()
      .listen(0, "127.0.0.1", () => {
        const { port } = probe.address()
        probe.close(() => resolve(port))
      })
      .on("error", reject)
  })
}

async function listens(port) {
  // By the kernel's list and not by connecting: the floor counts its connections.
  const wanted = `0100007F:${port.toString(16).toUpperCase().padStart(4, "0")}`
  return readFileSync("/proc/net/tcp", "utf8")
    .split("\n")
    .some((line) => {
      const [, local, , state] = line.trim().split(/\s+/)
      return local === wanted && state === "0A"
    })
}
