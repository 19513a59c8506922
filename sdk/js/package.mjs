// Packs the package, and has publint and attw look at what was packed. Works offline.
import { execFileSync } from "node:child_process"
import { mkdirSync, rmSync } from "node:fs"
import { root } from "./build.mjs"

const run = (command, ...given) => execFileSync(command, given, { cwd: root, stdio: ["ignore", "pipe", "inherit"], encoding: "utf8" })

rmSync(`${root}build/pack`, { recursive: true, force: true })
mkdirSync(`${root}build/pack`, { recursive: true })
const [{ filename, size, files }] = JSON.parse(run("npm", "pack", "--json", "--ignore-scripts", "--pack-destination", "build/pack"))
const packed = `build/pack/${filename}`
console.log(`${packed}: ${files.length} files, ${size} bytes`)
console.log(run("node_modules/.bin/publint", "run", packed, "--strict"))
console.log(run("node_modules/.bin/attw", packed, "--profile", "esm-only", "--no-color", "--no-emoji"))
