// Counts the instructions of one operation on each hot path, and compares them with the baseline.
//
//   node crates/fourfold-gate/run.mjs target/gate/fourfold-gate [--accept] [PATH...]
//
// A count is the difference of two runs under callgrind with N and 2N rounds, so neither start-up nor warm-up is in it; neither is the client
// (the main thread), nor the kernel. More than LIMIT away from the baseline is a failure, in both directions: a baseline that has become too
// high would hide the next loss. `--accept` writes what was counted as the new baseline.
//
// Another compiler, valgrind, C library or processor makes other instructions of the same source. Then the counts are told and nothing fails.
import { execFile, execFileSync } from "node:child_process"
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { arch, availableParallelism } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"

const LIMIT = 0.03
const MINUTES_MAX = 5
const baselineFile = new URL("baseline.json", import.meta.url)
const [program, ...rest] = process.argv.slice(2)
const accept = rest.includes("--accept")
const wanted = rest.filter((word) => word !== "--accept")
if (!program) {
  console.error("usage: run.mjs PROGRAM [--accept] [PATH...]")
  process.exit(2)
}

// The C library chooses its copying and searching by the processor; so does memchr. The first is told to take what every x86-64 has; the second
// asks valgrind's own processor, which is the same wherever the real one has AVX2.
const env = {
  PATH: process.env.PATH,
  GLIBC_TUNABLES:
    "glibc.cpu.hwcaps=-AVX512VL,-AVX512BW,-AVX2,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM,-RTM,-BMI2,-MOVBE,-SSE4_2,-SSE4_1,-SSSE3",
}
// Unless it is told otherwise, the allocator gives memory back by the clock, tidies its caches by chance, and has more arenas on more processors.
env._RJEM_MALLOC_CONF = "narenas:1,dirty_decay_ms:-1,muzzy_decay_ms:-1,tcache_gc_incr_bytes:1073741824"
const output = (command, ...args) => execFileSync(command, args, { encoding: "utf8" }).trim()
const madeWith = {
  rustc: output("rustc", "--version"),
  valgrind: output("valgrind", "--version"),
  libc: output("getconf", "GNU_LIBC_VERSION"),
  processor: `${arch()}${/\bavx2\b/.test(readFileSync("/proc/cpuinfo", "utf8")) ? " with AVX2" : ""}`,
}

mkdirSync("target/tests", { recursive: true })
const scratch = mkdtempSync("target/tests/gate-")
const run = promisify(execFile)

async function instructions(name, rounds) {
  const file = `${name.replaceAll("/", "-")}.${rounds}`
  const args = ["--tool=callgrind", "--separate-threads=yes", `--callgrind-out-file=${join(scratch, file)}`]
  await run("valgrind", [...args, program, name, String(rounds)], { env, timeout: MINUTES_MAX * 60_000 }).catch((error) => {
    throw new Error(`${name} with ${rounds} rounds: ${error.stderr || error}`)
  })
  let counted = 0
  for (const part of readdirSync(scratch).filter((found) => found.startsWith(`${file}-`))) {
    const text = readFileSync(join(scratch, part), "utf8")
    if (text.match(/^thread: *(\d+)/m)[1] !== "1") counted += Number(text.match(/^(?:totals|summary): *(\d+)/m)[1])
  }
  if (counted === 0) throw new Error(`${name}: callgrind has written nothing`)
  return counted
}

const paths = output(program).split("\n").map((line) => line.split(" ")).filter(([name]) => wanted.length === 0 || wanted.includes(name))
const counts = {}
const queue = [...paths]
async function work() {
  for (let path = queue.shift(); path; path = queue.shift()) {
    const [name, rounds, operations] = [path[0], Number(path[1]), Number(path[2])]
    const once = await instructions(name, rounds)
    const twice = await instructions(name, 2 * rounds)
    counts[name] = Math.round((twice - once) / rounds / operations)
  }
}
try {
  await Promise.all(Array.from({ length: availableParallelism() }, work))
} finally {
  rmSync(scratch, { recursive: true })
}

const baseline = JSON.parse(readFileSync(baselineFile, "utf8"))
const strange = Object.keys(madeWith).filter((what) => baseline.madeWith[what] !== madeWith[what])
let failures = 0
console.log(`${"instructions for one operation".padEnd(32)}${"baseline".padStart(10)}${"now".padStart(10)}`)
for (const [name] of paths) {
  const [before, now] = [baseline.instructions[name], counts[name]]
  const change = now / before - 1
  const outside = !(Math.abs(change) <= LIMIT)
  if (outside) failures++
  const told = before === undefined ? "new" : `${change < 0 ? "" : "+"}${(100 * change).toFixed(2)} %`
  console.log(`${name.padEnd(32)}${String(before ?? "").padStart(10)}${String(now).padStart(10)}${told.padStart(11)}${outside ? "  <--" : ""}`)
}
const gone = wanted.length ? [] : Object.keys(baseline.instructions).filter((name) => !(name in counts))
for (const name of gone) console.log(`${name.padEnd(32)}is gone`)

if (accept) {
  const kept = wanted.length ? baseline.instructions : {}
  const all = Object.fromEntries([...Object.entries(kept), ...paths.map(([name]) => [name, counts[name]])])
  writeFileSync(baselineFile, JSON.stringify({ madeWith, instructions: all }, null, 2) + "\n")
  console.log("accepted as the new baseline: commit it, and say why in the commit's body")
} else if (strange.length) {
  const was = strange.map((what) => `${what}: '${madeWith[what]}', there '${baseline.madeWith[what] ?? ""}'`)
  console.log(`reported only: the baseline was made otherwise (${was.join("; ")})`)
} else if (failures + gone.length) {
  console.log(`outside of ±${100 * LIMIT} %: if that is meant, run 'bash tests/run gate-accept', commit the baseline, and say why in the commit's body`)
  process.exitCode = 1
}
