// The client, bundled and minified as it is published. FOURFOLD_CLIENT names another module to test instead.
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { build } from "esbuild"
import { WebSocket } from "ws"

const root = fileURLToPath(new URL("../..", import.meta.url))
const contents = 'export * from "./src/index.ts"; export { writer } from "./src/writer.ts"'

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
  const outfile = join(folder, "fourfold.mjs")
  const entry = { contents, resolveDir: root, loader: "ts" }
  await build({ stdin: entry, absWorkingDir: root, bundle: true, minify: true, target: "es2018", format: "esm", outfile })
  return outfile
}
