// A server with rules, and tokens in every place: node tokens.mjs
// The guide beside it explains the steps. Node 20 or newer, no packages. The command is target/debug/fourfold, or what FOURFOLD_BIN names.
import assert from "node:assert/strict"
import { execFileSync, spawn } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"

const command = process.env.FOURFOLD_BIN ?? "target/debug/fourfold"
const folder = mkdtempSync(join(tmpdir(), "fourfold-tokens-"))
const file = (name) => join(folder, name)
const fourfold = (...args) => execFileSync(command, args, { encoding: "utf8", cwd: folder }).trim()

// Your own backend: it lets everybody read below news/, and nobody else do anything.
const backend = createServer(async (request, response) => {
  const parts = []
  for await (const part of request) parts.push(part)
  const { verb, path } = JSON.parse(Buffer.concat(parts))
  response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify({ allow: verb === "read" && path.startsWith("news/") }))
})
await new Promise((resolve) => backend.listen(0, "127.0.0.1", resolve))

let server
try {
  // 1. A secret, and rules.
  writeFileSync(file("fourfold.secret"), execFileSync(command, ["token", "new-secret"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }), { mode: 0o600 })
  writeFileSync(
    file("fourfold.toml"),
    `listen = "127.0.0.1:0"
engine = "memory"
[access]
audience = "fourfold"
[[access.keys]]
algorithm = "HS256"
secret-file = "fourfold.secret"
[access.anonymous]
read = ["public/**"]
[access.authenticated]
read = ["users/{sub}/**"]
append = ["users/{sub}/**"]
[access.hook]
url = "http://127.0.0.1:${backend.address().port}/may"
`,
  )
  const config = ["--config", file("fourfold.toml")]
  server = spawn(command, ["serve", ...config], { stdio: ["ignore", "pipe", "inherit"] })
  const [line] = await new Promise((resolve) => createInterface(server.stdout).once("line", (line) => resolve([line])))
  const root = `${line.replace("listening on ", "")}/v1/stream`

  // 2. Tokens: one that creates, one of a user.
  const admin = fourfold("token", ...config, "--sub", "admin", "--create", "**", "--append", "**")
  const ann = fourfold("token", ...config, "--sub", "ann")
  const by = (token) => ({ Authorization: `Bearer ${token}` })
  const json = { "Content-Type": "application/json" }
  for (const name of ["public/a", "users/ann/inbox", "users/bob/inbox", "news/1"]) {
    assert.equal((await fetch(`${root}/${name}`, { method: "PUT", headers: { ...by(admin), ...json } })).status, 201, name)
  }

  // 3. Who may do what.
  const status = async (name, options) => (await fetch(`${root}/${name}`, options)).status
  assert.equal(await status("public/a"), 200)
  assert.equal(await status("users/ann/inbox"), 401)
  assert.equal(await status("users/ann/inbox", { headers: by(ann) }), 200)
  assert.equal(await status("users/bob/inbox", { headers: by(ann) }), 403)
  assert.equal(await status("users/ann/inbox", { method: "POST", headers: { ...by(ann), ...json }, body: '{"hello":"ann"}' }), 204)
  assert.equal(await status("news/1", { headers: by(ann) }), 200, "the backend was asked")
  assert.equal(await status("news/1", { method: "POST", headers: { ...by(ann), ...json }, body: "1" }), 403)

  // 4. In the query, for what cannot send a header.
  const events = await fetch(`${root}/users/ann/inbox?live=sse&offset=-1&access_token=${ann}`)
  assert.equal(events.status, 200)
  const { value } = await events.body.pipeThrough(new TextDecoderStream()).getReader().read()
  assert.match(value, /retry:/)

  // 5. A token explained.
  const words = fourfold("token", "check", ann, ...config, "--verb", "read", "--path", "users/ann/inbox")
  assert.doesNotMatch(words, new RegExp(ann.split(".")[2]), "it is not said again")
  console.log(words)
} finally {
  server?.kill()
  backend.close()
  backend.closeAllConnections()
  rmSync(folder, { recursive: true })
}
