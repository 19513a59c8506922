// Builds the package into dist/: the bundle, one file for a plain script tag, the types. `node build.mjs test` bundles the
// tests into build/test/ instead. Prints what the bundle weighs; fails if it is over the budget.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const GZIP_BYTES_MAX = 8192; // The whole client, promised in the README.

// Names with a trailing underscore are private: nothing outside of the bundle sees them.
const common = { bundle: true, format: "esm", target: "es2018", logLevel: "warning" };
const small = { ...common, minify: true, mangleProps: /[^_]_$/, legalComments: "none" };

if (process.argv[2] === "test") {
  rmSync("build/test", { recursive: true, force: true });
  const entryPoints = readdirSync("test").filter((name) => name.endsWith(".test.ts")).map((name) => `test/${name}`);
  await build({ ...common, entryPoints, outdir: "build/test", platform: "node", target: "node20", packages: "external", sourcemap: "inline", outExtension: { ".js": ".mjs" } });
} else {
  rmSync("dist", { recursive: true, force: true });
  await build({ ...small, entryPoints: ["src/index.ts"], outfile: "dist/fourfold.js", sourcemap: true });
  await build({ ...small, entryPoints: ["src/index.ts"], outfile: "dist/fourfold.iife.js", format: "iife", globalName: "fourfold" });
  if (existsSync("src/react.ts")) {
    await build({ ...small, entryPoints: ["src/react.ts"], outfile: "dist/react.js", external: ["react", "fourfold"] });
  }
  execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.types.json"], { stdio: "inherit" });
  const bytes = gzipSync(readFileSync("dist/fourfold.js"), { level: 9 }).length;
  console.log(`dist/fourfold.js: ${bytes} bytes gzipped, of at most ${GZIP_BYTES_MAX}`);
  if (bytes > GZIP_BYTES_MAX) process.exit(1);
}
