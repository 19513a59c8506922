// Makes what is published: `npm run build` writes dist/, and the copy of the module that the server's demo carries.
import { execFileSync } from "node:child_process"
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { dirname } from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"

export const root = fileURLToPath(new URL("..", import.meta.url))
export const DEMO_COPY = `${root}../../crates/fourfold/src/demo/assets/fourfold.js`
const { version, license } = JSON.parse(readFileSync(`${root}package.json`, "utf8"))

const common = {
  absWorkingDir: root,
  bundle: true,
  minify: true,
  target: "es2018",
  charset: "utf8",
  sourcemap: "linked",
  banner: { js: `/*! fourfold ${version}, ${license} */` },
  logLevel: "warning",
}

// The hook stands beside the client, and takes it from there: one client in a page, however it is imported.
const clientBeside = {
  name: "client beside",
  setup: ({ onResolve }) => onResolve({ filter: /^\.\/index\.js$/ }, () => ({ path: "./fourfold.js", external: true })),
}

/** Writes the bundles into `folder`. */
export async function bundle(folder) {
  const entry = (name) => `src/${name}.ts`
  await build({ ...common, entryPoints: [entry("index")], format: "esm", outfile: `${folder}/fourfold.js` })
  const iife = { format: "iife", globalName: "fourfold", outfile: `${folder}/fourfold.iife.js` }
  await build({ ...common, entryPoints: [entry("index")], ...iife })
  const hook = { format: "esm", outfile: `${folder}/react.js`, external: ["react"], plugins: [clientBeside] }
  await build({ ...common, entryPoints: [entry("react")], ...hook })
}

/** What the demo carries: the module, without the line that names its source map. */
export function demoCopy(folder) {
  return readFileSync(`${folder}/fourfold.js`, "utf8").replace(/\/\/# sourceMappingURL=.*\n?/, "")
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const dist = `${root}dist`
  rmSync(dist, { recursive: true, force: true })
  await bundle(dist)
  const declarations = ["--noEmit", "false", "--declaration", "--emitDeclarationOnly", "--rootDir", "src"]
  const tsc = fileURLToPath(new URL("../node_modules/typescript/bin/tsc", import.meta.url))
  execFileSync(process.execPath, [tsc, ...declarations, "--outDir", "dist/types"], { cwd: root, stdio: "inherit" })
  mkdirSync(dirname(DEMO_COPY), { recursive: true })
  writeFileSync(DEMO_COPY, demoCopy(dist))
}
