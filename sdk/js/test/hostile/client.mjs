// The client as it is published: bundled, minified. FOURFOLD_CLIENT names another module to test instead.
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { WebSocket } from "ws"

import { bundle } from "../../scripts/build.mjs"

const folder = mkdtempSync(join(tmpdir(), "fourfold-client-"))
process.once("exit", () => rmSync(folder, { recursive: true, force: true }))
if (!process.env.FOURFOLD_CLIENT) await bundle(folder)

/** The path of the module, as a page would load it. */
export const clientPath = process.env.FOURFOLD_CLIENT ?? join(folder, "fourfold.js")
/** The same as one plain script. */
export const scriptPath = process.env.FOURFOLD_CLIENT?.replace(/\.js$/, ".iife.js") ?? join(folder, "fourfold.iife.js")
export const { follow, writer } = await import(pathToFileURL(clientPath))
export { WebSocket }

/** A follower for the harness; `options(number)` are those of `follow`, by turns. */
export function followerOf(options) {
  let number = 0
  return async function* (url, { offset, shared, signal, live }) {
    const following = follow(url, { offset, signal, WebSocket, share: shared ? "page" : false, ...options(number++) })
    following.on("state", (state) => state.name === "live" && live())
    yield* following
  }
}
