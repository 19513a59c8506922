// Runs the parts, one after the other, each bounded; then writes the pages. Started by bench/peers.
import { write as writePages } from "./pages.mjs"
import { PARTS } from "./parts.mjs"
import { begin } from "./results.mjs"
import { ROOT, stopAll } from "./servers.mjs"

const MINUTES_MAX = { quick: 8, full: 40 } // What has not begun by then is left out, and said.

// The figures of a measurement that are shown while it runs; the others are in its JSON.
const SHOWN = [
  "cpuUsPerDelivery",
  "cpuUsPerRequest",
  "cpuUsPerAppend",
  "appendedPerSecond",
  "idleBytes",
  "startMs",
  "bytesPerColdStream",
  "mbPerSecond",
  "pssPeak",
]

const args = process.argv.slice(2)
const profile = args.includes("--quick") ? "quick" : "full"
const named = args.filter((arg) => arg !== "--quick")
if (named.some((name) => name !== "pages" && !(name in PARTS))) {
  console.log("usage: bench/peers [--quick] [PART...] | pages\n\nParts:")
  for (const [name, { about }] of Object.entries(PARTS)) console.log(`  ${name.padEnd(11)} ${about.title}`)
  process.exit(named.some((name) => /^-?-h/.test(name)) ? 0 : 2)
}

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    stopAll().finally(() => process.exit(130))
  })
}

const begun = performance.now()
const failures = []
for (const name of named.length > 0 ? named : Object.keys(PARTS)) {
  if (name !== "pages") await run(name)
}
writePages()
console.log(`\n${minutes()} min, ${failures.length} measurements failed${failures.map((each) => `\n  ${each}`).join("")}`)
process.exitCode = failures.length > 0 ? 1 : 0

async function run(name) {
  const { about, run } = PARTS[name]
  const { results, save } = begin(name, about, profile)
  console.log(`\n== ${name}: ${about.title} (${minutes()} min)`)
  /** Measures one thing and keeps it under `key`; a failure is kept too, and the next is measured. */
  const measure = async (key, work) => {
    const what = Object.values(key).join(" ")
    try {
      if (performance.now() - begun > MINUTES_MAX[profile] * 60_000) throw new Error("left out: the time was over")
      const figures = await work()
      results.runs.push({ ...key, ...figures })
      console.log(`  ${what}: ${brief(figures)}`)
      save()
      return figures
    } catch (error) {
      const why = said(error)
      results.failures.push({ ...key, error: why })
      failures.push(`${name} ${what}: ${why}`)
      console.log(`  ${what}: FAILED: ${why}`)
      await stopAll()
      save()
      return undefined
    }
  }
  try {
    await run({ quick: profile === "quick", rounds: profile === "quick" ? 1 : 3, measure })
  } catch (error) {
    const why = said(error)
    results.failures.push({ error: why })
    failures.push(`${name}: ${why}`)
    console.log(`  FAILED: ${why}`)
    await stopAll()
  }
  save()
}

/** The pages show it, and where this repository lies is nobody's business. */
function said(error) {
  return error.message.replaceAll(`${ROOT}/`, "")
}

function minutes() {
  return ((performance.now() - begun) / 60_000).toFixed(1)
}

function brief(figures) {
  const { latencyMs, lost, brokenConnections } = figures
  const of = (name) => (Number.isFinite(figures[name]) ? [[name, figures[name]]] : [])
  const shown = SHOWN.flatMap(of).concat(
    latencyMs
      ? [
          ["p50", latencyMs.p50],
          ["p99", latencyMs.p99],
        ]
      : [],
    lost > 0 ? [["LOST", lost]] : [],
    brokenConnections > 0 ? [["CUT OFF", brokenConnections]] : [],
  )
  return shown.map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`).join(", ")
}
