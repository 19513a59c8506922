// A real server of our own, that can be killed and comes back at the same address with the same data.
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

const BINARY = process.env.FOURFOLD_BIN ?? fileURLToPath(new URL("../../../../target/debug/fourfold", import.meta.url))
const READY_MS = 20_000

const running = new Set()
process.once("exit", () => running.forEach((server) => server.killNow()))
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1))

export class Server {
  #folder
  #process
  #listen = "127.0.0.1:0"
  #told = [] // the last of what it logged
  #restarting = Promise.resolve()
  kills = 0
  drains = 0

  static async start() {
    const server = new Server()
    server.#folder = await mkdtemp(join(tmpdir(), "fourfold-hostile-"))
    running.add(server)
    await server.#spawn()
    return server
  }

  get url() {
    return `http://${this.#listen}`
  }

  /** As a power cut of the process: no goodbye, nothing flushed. */
  async kill() {
    const child = this.#process
    if (!child) return
    this.#process = null
    this.kills += 1
    const gone = once(child, "exit")
    child.kill("SIGKILL")
    await gone
  }

  killNow() {
    this.#process?.kill("SIGKILL")
  }

  /** Killed, away for a while, and back. One at a time. */
  restart(awayMs = 0) {
    this.#restarting = this.#restarting.then(async () => {
      await this.kill()
      await new Promise((over) => setTimeout(over, awayMs))
      await this.#spawn()
    })
    return this.#restarting
  }

  async stop() {
    await this.#restarting
    await this.kill()
    running.delete(this)
    await rm(this.#folder, { recursive: true, force: true })
  }

  /** Told to end, it says goodbye to its readers first; and is back. One at a time with the restarts. */
  drain() {
    this.#restarting = this.#restarting.then(async () => {
      const child = this.#process
      const gone = once(child, "exit")
      child.kill("SIGTERM")
      await gone
      this.drains += 1
      await this.#spawn()
    })
    return this.#restarting
  }

  async #spawn() {
    const drain = ["--drain-deadline", "2s", "--drain-spread", "500ms"]
    // What is written outlives a kill; the disk is not what is tried here, and several of these share it.
    const durable = ["--durability", "os"]
    const args = ["serve", "--listen", this.#listen, "--data-dir", this.#folder, "--log", "warn", ...durable, ...drain]
    const child = spawn(BINARY, args, { stdio: ["ignore", "pipe", "pipe"] })
    const lines = createInterface({ input: child.stderr })
    lines.on("line", (line) => this.#told.push(line) > 50 && this.#told.shift())
    this.#listen = await new Promise((ready, failed) => {
      const deadline = setTimeout(() => failed(new Error("the server does not start")), READY_MS)
      createInterface({ input: child.stdout }).on("line", (line) => {
        const address = /listening on http:\/\/(\S+)/.exec(line)
        if (address) ready(address[1])
        clearTimeout(deadline)
      })
      child.once("error", failed)
      child.once("exit", (code, signal) => failed(new Error(`the server ended: ${code ?? signal}\n${this.#told.join("\n")}`)))
    })
    this.#process = child
  }
}
