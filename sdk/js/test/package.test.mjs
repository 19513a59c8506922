// What is published and what is committed belong together.
import assert from "node:assert/strict"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { test } from "node:test"
import { runInNewContext } from "node:vm"
import { reference } from "../api.mjs"
import { bundle, DEMO_COPY, demoCopy, GZIP_BYTES_MAX, gzipBytes, root } from "../build.mjs"

function fresh(t) {
  const folder = mkdtempSync(join(tmpdir(), "fourfold-bundle-"))
  t.after(() => rmSync(folder, { recursive: true }))
  return folder
}

test("the whole client stays within its budget", async (t) => {
  const folder = fresh(t)
  await bundle(folder)
  const bytes = gzipBytes(folder)
  assert.ok(bytes <= GZIP_BYTES_MAX, `${bytes} bytes gzipped, at most ${GZIP_BYTES_MAX}`)
})

test("the server's demo carries this client: `npm run build` renews it", async (t) => {
  const folder = fresh(t)
  await bundle(folder)
  assert.ok(readFileSync(DEMO_COPY, "utf8") === demoCopy(folder), "crates/fourfold/src/demo/assets/fourfold.js is not current")
})

test("the reference is current: `npm run api` renews it", () => {
  assert.equal(readFileSync(`${root}API.md`, "utf8"), reference())
})

test("a plain script tag gets one global, with what the module exports", async () => {
  const scope = {}
  runInNewContext(readFileSync(`${root}dist/fourfold.iife.js`, "utf8") + ";this.fourfold = fourfold", scope)
  assert.deepEqual(Object.keys(scope.fourfold).sort(), Object.keys(await import("../dist/fourfold.js")).sort())
})

test("the lock file names no registry", () => {
  assert.doesNotMatch(readFileSync(`${root}package-lock.json`, "utf8"), /"resolved"/)
})
