// Makes what is published, in dist/: the client as a module and for a plain script tag, the React hook, the types; and the
// copy of the client that the server's demo carries. `node build.mjs test` makes the tests in build/test/ instead.

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { minify } from "terser";

export const GZIP_BYTES_MAX = 8192; // The whole client, promised in the README.
export const root = fileURLToPath(new URL(".", import.meta.url));
export const DEMO_COPY = fileURLToPath(new URL("../../crates/fourfold/src/demo/assets/fourfold.js", import.meta.url));

const common = { absWorkingDir: root, bundle: true, format: "esm", target: "es2018", logLevel: "warning" };

// Members that only the client's own parts see: no name of the API, of the wire, of a
// word between tabs, of the platform, or that is somewhere a string (`"afterMs" in ending`).
const PRIVATE =
  /^(alive|asked|chunk|connection|credentials|deaf|ended|fail|failures|full|hand|header|held|holdSeconds|identity|identityInTabs|kind|left|leftUntil|offer|over|poke|proven|query|release|renew|resume|said|skip|skipped|taken|timer|told|tries|way)$|[^_]_$/;

const small = { ...common, minifySyntax: true, mangleProps: PRIVATE, legalComments: "none", sourcemap: true };

/** Bundles by esbuild; terser then makes it a twentieth smaller than esbuild would. */
async function write(options) {
  await build({ ...small, ...options });
  const file = `${options.outfile}`;
  const { code, map } = await minify(readFileSync(file, "utf8"), {
    ecma: 2018,
    module: options.format !== "iife",
    compress: { passes: 6, ecma: 2018, inline: 1, pure_getters: true, sequences: false, unsafe_arrows: true },
    sourceMap: { content: readFileSync(`${file}.map`, "utf8"), url: `${basename(file)}.map` },
  });
  writeFileSync(file, code + "\n");
  writeFileSync(`${file}.map`, map);
}

// The hook takes the client that stands beside it: one client in a page, however it is imported.
const clientBeside = {
  name: "client beside",
  setup: ({ onResolve }) => onResolve({ filter: /^\.\/index\.js$/ }, () => ({ path: "./fourfold.js", external: true })),
};

/** Writes the bundles into `folder`. */
export async function bundle(folder) {
  const client = { entryPoints: ["src/index.ts"] };
  await write({ ...client, outfile: `${folder}/fourfold.js` });
  await write({ ...client, outfile: `${folder}/fourfold.iife.js`, format: "iife", globalName: "fourfold" });
  const hook = { external: ["react"], plugins: [clientBeside] };
  await write({ ...hook, entryPoints: ["src/react.ts"], outfile: `${folder}/react.js` });
}

/** What the demo carries: the module, without the line that names its source map. */
export function demoCopy(folder) {
  return readFileSync(`${folder}/fourfold.js`, "utf8").replace(/\/\/# sourceMappingURL=.*\n/, "");
}

/** What the client weighs on the wire. */
export function gzipBytes(folder) {
  return gzipSync(demoCopy(folder), { level: 9 }).length;
}

async function buildTests() {
  rmSync(`${root}build/test`, { recursive: true, force: true });
  const names = readdirSync(`${root}test`).filter((name) => name.endsWith(".test.ts"));
  const entryPoints = names.map((name) => `test/${name}`);
  const node = { platform: "node", target: "node20", packages: "external", sourcemap: "inline", outExtension: { ".js": ".mjs" } };
  await build({ ...common, ...node, entryPoints, outdir: "build/test" });
}

async function buildPackage() {
  const dist = `${root}dist`;
  rmSync(dist, { recursive: true, force: true });
  await bundle(dist);
  const tsc = fileURLToPath(new URL("node_modules/typescript/bin/tsc", import.meta.url));
  execFileSync(process.execPath, [tsc, "-p", "tsconfig.types.json"], { cwd: root, stdio: "inherit" });
  mkdirSync(dirname(DEMO_COPY), { recursive: true });
  writeFileSync(DEMO_COPY, demoCopy(dist));
  console.log(`dist/fourfold.js: ${gzipBytes(dist)} bytes gzipped, of at most ${GZIP_BYTES_MAX}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await (process.argv[2] === "test" ? buildTests() : buildPackage());
