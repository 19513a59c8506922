// Runs seeds, some at a time, within a time; what fails prints the command that repeats it.
import assert from "node:assert/strict"

/** How long one seed lasts, without its end; how many of them; from which one on. */
export const SECONDS = Number(process.env.FOURFOLD_SECONDS ?? 6)
const COUNT = process.env.FOURFOLD_SEEDS
const ONLY = process.env.FOURFOLD_SEED
const AT_ONCE = Number(process.env.FOURFOLD_AT_ONCE ?? 6)
const LOG_SHOWN = Number(process.env.FOURFOLD_LOG ?? 60)

/** `run(seed)` resolves with `{ faults, figures, log, phases }`. `count` is what it takes when nothing is asked for. */
export async function eachSeed(test, file, count, run) {
  const first = ONLY === undefined ? Number(process.env.FOURFOLD_FIRST ?? 1) : Number(ONLY)
  const seeds = Array.from({ length: ONLY === undefined ? Number(COUNT ?? count) : 1 }, (_, step) => first + step)
  const failed = []
  const work = async () => {
    for (let seed = seeds.shift(); seed !== undefined; seed = seeds.shift()) {
      const verdict = await run(seed)
      console.log(`# ${test}: ${JSON.stringify(verdict.figures)}`)
      if (verdict.faults.length === 0 && !process.env.FOURFOLD_LOG) continue
      if (verdict.faults.length === 0) {
        console.error(verdict.log.slice(-LOG_SHOWN).join("\n"))
        continue
      }
      failed.push(seed)
      const repeat = `FOURFOLD_SEED=${seed} FOURFOLD_SECONDS=${SECONDS} node --test --test-name-pattern='${test}' sdk/js/test/hostile/${file}`
      console.error(["", `seed ${seed} failed; again: ${repeat}`, ...verdict.faults, "", ...verdict.log.slice(-LOG_SHOWN)].join("\n  "))
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
  assert.deepEqual(failed, [], "seeds that failed: the commands that repeat them are above")
}

/** A time within which `count` seeds have to be through. */
export function limit(count) {
  const rounds = Math.ceil(Number(COUNT ?? count) / AT_ONCE)
  return { timeout: rounds * (SECONDS * 1_000 + 90_000) }
}
