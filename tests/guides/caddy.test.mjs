// docs/guide/caddy.md: its configuration, run by Caddy.
import assert from "node:assert/strict"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { test } from "node:test"

import { block, freePort, listening, replaced, scratch, start, through } from "./proxy.mjs"

const caddy = process.env.CADDY ?? "/usr/bin/caddy"

async function proxy(t, upstream) {
  const [dir, port] = [scratch(t), await freePort()]
  const page = replaced(replaced(block("caddy.md", "caddyfile"), "127.0.0.1:4437", `127.0.0.1:${upstream}`), "example.org {", `http://127.0.0.1:${port} {`)
  // Nothing but this port: no administration, no certificates.
  writeFileSync(join(dir, "Caddyfile"), `{\n\tadmin off\n}\n${page}`)
  const own = { ...process.env, HOME: dir, XDG_DATA_HOME: dir, XDG_CONFIG_HOME: dir }
  const running = start(caddy, ["run", "--config", join(dir, "Caddyfile"), "--adapter", "caddyfile"], { env: own })
  running.child.stdout.resume()
  t.after(() => running.end())
  await listening(port, running)
  return port
}

through(test, proxy, async ({ url, restart }) => {
  const waiting = fetch(url)
  await restart()
  assert.equal((await waiting).status, 200)
})
