// node run.mjs URL NAME: every part of the suite that is served must pass whole, and must be as large as we know it.
import { execFileSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const REQUIRED = {
  core: 250,
  forks: 82,
  subscriptions: 6,
}
// By the title of a test's outermost group; the core is the rest.
const PARTS = {
  forks: /^Fork/,
  subscriptions: /^Reserved subscription/,
}
const here = dirname(fileURLToPath(import.meta.url))
const [url, name] = process.argv.slice(2)
const folder = mkdtempSync(join(tmpdir(), "conformance-"))
const report = join(folder, "report.json")
try {
  execFileSync(join(here, "node_modules/.bin/vitest"), ["run", "--config", "vitest.config.mjs", "--reporter=json", `--outputFile=${report}`], {
    cwd: here,
    env: { ...process.env, CONFORMANCE_TEST_URL: url },
    stdio: ["ignore", "ignore", "ignore"],
  })
} catch {
  // Some test failed; the report says which.
}
const tests = JSON.parse(readFileSync(report, "utf8")).testResults.flatMap((file) => file.assertionResults)
rmSync(folder, { recursive: true })
const part = (test) => Object.keys(PARTS).find((title) => PARTS[title].test(test.ancestorTitles[0])) ?? "core"
const passed = (test) => test.status === "passed"
const counts = []
let whole = true
for (const each of new Set([...Object.keys(REQUIRED), ...tests.map(part)])) {
  const all = tests.filter((test) => part(test) === each)
  counts.push(`${each} ${all.filter(passed).length} of ${REQUIRED[each] ?? `${all.length} (not served yet)`}`)
  if (!(each in REQUIRED)) continue
  whole &&= all.length === REQUIRED[each] && all.every(passed)
  for (const test of all.filter((test) => !passed(test))) console.error(`failed: ${test.fullName}\n  ${test.failureMessages[0]?.split("\n")[0]}`)
}
const required = tests.filter((test) => part(test) in REQUIRED)
console.log(`conformance on ${name}: ${counts.join("; ")}`)
console.log(`${required.filter(passed).length} passed, ${required.filter((test) => !passed(test)).length} failed`)
process.exit(whole ? 0 : 1)
