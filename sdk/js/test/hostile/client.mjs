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

const WAYS = ["websocket", "sse", "long-poll", "short-poll"]

/** A follower for the harness; `options()` are those of `follow`. Its `tally` counts how often one fell and climbed. */
export function followerOf(options) {
  const tally = { falls: 0, climbs: 0 }
  const read = async function* (url, { offset, shared, signal, live }) {
    const share = shared ? "page" : false
    const following = follow(url, { offset, signal, WebSocket, share, ...options() })
    let way
    following.on("state", (state) => {
      if (state.name !== "live") return
      live()
      const step = way === undefined ? 0 : WAYS.indexOf(state.transport) - WAYS.indexOf(way)
      if (step > 0) tally.falls += 1
      if (step < 0) tally.climbs += 1
      way = state.transport
    })
    yield* following
  }
  return Object.assign(read, { tally })
}

async function bundled() {
  const folder = mkdtempSync(join(tmpdir(), "fourfold-client-"))
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }))
  await bundle(folder)
  return join(folder, "fourfold.js")
}
