// The tests' own tools: the harness has no complaint about a follower that is right, and finds what is wrong with others.
import assert from "node:assert/strict"
import { test } from "node:test"

import { within } from "./deadline.mjs"
import { judge } from "./harness.mjs"
import { MISTAKES, reference } from "./reference.mjs"

const LIMIT = { timeout: 120_000 }
const SECONDS = 4
const END_MS = 8_000
const SEEDS_MAX = 6 // A mistake needs its fault: not every seed has it.
const BASE = { seconds: SECONDS, endMs: END_MS, sort: "json" }

const simple = (mistake) => async function* (url, { offset, signal, live }) {
  // Its place is known with its first answer: from a place that is certain on, it is "now" that is resolved by asking.
  let at = offset
  while (at === "now" && !signal.aborted) {
    const ask = async (signal) => (await fetch(`${url}?offset=now`, { signal })).headers.get("stream-next-offset")
    at = (await within(2_000, ask, signal).catch(() => null)) ?? "now"
  }
  live()
  yield* reference(url, { offset: at, signal, mistake })
}

test("a follower that is right passes", LIMIT, async () => {
  const all = await Promise.all([1, 2].map((seed) => judge({ ...BASE, seed, follower: simple({}) })))
  for (const { faults, figures } of all) {
    assert.deepEqual(faults, [])
    assert.ok(figures.records > 50, `the writer got on: ${figures.records} records`)
  }
})

test("each mistake is found", LIMIT, async () => {
  const missed = []
  const hunt = async ([name, mistake], number) => {
    for (let turn = 0; turn < SEEDS_MAX; turn += 1) {
      const { faults } = await judge({ ...BASE, seed: 100 * number + turn, follower: simple(mistake) })
      if (faults.length > 0) return
    }
    missed.push(name)
  }
  await Promise.all(Object.entries(MISTAKES).map(hunt))
  assert.deepEqual(missed, [])
})
