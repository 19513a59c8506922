// node run.mjs URL NAME: what is served of the suite must pass whole; forks are counted apart until they are served.
import { execFileSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const CORE = 250
const SUBSCRIPTIONS = 6
const REQUIRED = CORE + SUBSCRIPTIONS
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
const beyond = (test) => /^Fork/.test(test.ancestorTitles[0])
const required = tests.filter((test) => !beyond(test))
const failed = required.filter((test) => test.status !== "passed")
for (const test of failed) console.error(`failed: ${test.fullName}\n  ${test.failureMessages[0]?.split("\n")[0]}`)
const others = tests.filter(beyond)
const othersPassed = others.filter((test) => test.status === "passed").length
console.log(`conformance on ${name}: ${required.length - failed.length} of ${REQUIRED}; forks ${othersPassed} of ${others.length}`)
console.log(`${required.length - failed.length} passed, ${failed.length} failed`)
process.exit(failed.length === 0 && required.length === REQUIRED ? 0 : 1)
