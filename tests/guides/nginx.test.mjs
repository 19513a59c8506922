// docs/guide/nginx.md: its configuration, run by nginx.
import assert from "node:assert/strict"
import { writeFileSync } from "node:fs"
import { userInfo } from "node:os"
import { join } from "node:path"
import { test } from "node:test"

import { block, freePort, listening, replaced, scratch, start, through } from "./proxy.mjs"

const nginx = process.env.NGINX ?? "/usr/sbin/nginx"

async function proxy(t, upstream) {
  const [dir, port] = [scratch(t), await freePort()]
  const page = replaced(replaced(block("nginx.md", "nginx"), "127.0.0.1:4437", `127.0.0.1:${upstream}`), "listen 80;", `listen 127.0.0.1:${port};`)
  writeFileSync(join(dir, "page.conf"), page)
  // What Debian's nginx.conf has around it, without anything outside of the directory.
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${dir}/${name};`).join("\n")
  writeFileSync(join(dir, "nginx.conf"), `user ${userInfo().username}; daemon off; worker_processes 1; pid ${dir}/pid; error_log stderr;
    events { worker_connections 256; }
    http { access_log off; ${temporary} include ${dir}/page.conf; }`)
  const running = start(nginx, ["-p", dir, "-c", join(dir, "nginx.conf"), "-e", "stderr"])
  t.after(() => running.end())
  await listening(port, running)
  return port
}

through(test, proxy, async ({ url, request, text, restart }) => {
  const away = await request(url)
  assert.equal(away.statusCode, 503)
  assert.equal(away.headers["retry-after"], "1")
  assert.equal(away.headers["content-type"], "application/problem+json")
  assert.equal(JSON.parse(await text(away)).retry, true)
  await restart()
  assert.equal((await fetch(url)).status, 200)
})
