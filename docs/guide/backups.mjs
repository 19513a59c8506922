// node backups.mjs: runs every command of backups.md, in directories of its own. Needs Node 20, gzip, and FOURFOLD_BIN (or target/debug/fourfold).
import assert from "node:assert/strict"
import { execFileSync, spawn } from "node:child_process"
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { basename, dirname, join, resolve } from "node:path"
import { createInterface } from "node:readline"

const bin = resolve(process.env.FOURFOLD_BIN ?? new URL("../../target/debug/fourfold", import.meta.url).pathname)
assert.equal(basename(bin), "fourfold")
const root = mkdtempSync(join(tmpdir(), "backups-"))
const here = (text) => text.replaceAll("/var/", `${root}/var/`)
const environment = { ...process.env, PATH: `${dirname(bin)}:${process.env.PATH}` }
const sh = (script) => execFileSync("bash", ["-euo", "pipefail", "-c", here(script)], { env: environment, stdio: "pipe" })
mkdirSync(join(root, "var/backups"), { recursive: true })

async function serve(dir) {
  const child = spawn(bin, ["serve", "--listen", "127.0.0.1:0", "--data-dir", here(dir), "--log", "warn"], { stdio: ["ignore", "pipe", "inherit"] })
  for await (const line of createInterface(child.stdout)) {
    const url = line.match(/^listening on (.*)$/)?.[1]
    if (url) return { url, end: () => child.exitCode ?? child.signalCode ?? new Promise((ended) => child.once("exit", ended).kill()) }
  }
  assert.fail("the server does not start")
}

const [take, pack, verify, restore] = [...readFileSync(new URL("backups.md", import.meta.url), "utf8").matchAll(/^```sh\n(.*?)^```$/gms)].map(([, script]) => script)
const read = async (server) => (await fetch(`${server.url}/v1/stream/news`)).json()
let server, again
try {
  server = await serve("/var/lib/fourfold")
  const news = `${server.url}/v1/stream/news`
  const json = { "Content-Type": "application/json" }
  await fetch(news, { method: "PUT", headers: json })
  const append = async (record) => (await fetch(news, { method: "POST", headers: json, body: JSON.stringify(record) })).headers.get("Stream-Next-Offset")
  await append("before")
  sh(take)
  sh(pack)
  sh(verify)
  const lost = await append("after")
  await server.end()
  sh(take) // the same of a directory at rest
  sh(verify)
  execFileSync("bash", ["-c", here("gunzip < /var/backups/fourfold.backup.gz > /var/backups/fourfold.backup")])
  sh(restore)
  again = await serve("/var/lib/fourfold-restored")
  assert.deepEqual(await read(again), ["before"])
  assert.equal((await fetch(`${again.url}/v1/stream/news?offset=${lost}`)).status, 410)
  console.log("backed up, verified, restored")
} finally {
  await server?.end()
  await again?.end()
  rmSync(root, { recursive: true })
}
