// The client, bundled as it is published: its names are mangled, so the source alone would prove less. FOURFOLD_CLIENT names another module to test instead.
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { WebSocket } from "ws"

import { bundle } from "../../build.mjs"

/** The path of the module, as a page would load it. */
export const clientPath = process.env.FOURFOLD_CLIENT ?? (await bundled())
export const { follow, writer } = await import(pathToFileURL(clientPath))
export { WebSocket }

/** A follower for the harness; `options(number)` are those of `follow`, by turns. */
export function followerOf(options) {
  let number = 0
  return async function* (url, { offset, shared, signal, live }) {
    const share = shared ? "page" : false
    const following = follow(url, { offset, signal, WebSocket, share, ...options(number++) })
    following.on("state", (state) => state.name === "live" && live())
    yield* following
  }
}

async function bundled() {
  const folder = mkdtempSync(join(tmpdir(), "fourfold-client-"))
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }))
  await bundle(folder)
  return join(folder, "fourfold.js")
}
