// The tests' own tools: the harness has no complaint about a follower that is right, and finds what is wrong with others.
import assert from "node:assert/strict"
import { test } from "node:test"

import { within } from "./deadline.mjs"
import { judge, judgeGaps, judgeWriter } from "./harness.mjs"
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

// Posts each record until an answer comes, with nothing that tells the server that it is the same one.
function insistent(url, { signal }) {
  const headers = { "Content-Type": "application/json" }
  let last = Promise.resolve()
  const send = async (request) => {
    for (;;) {
      const own = { method: "POST", ...request }
      const answer = await within(2_000, (signal) => fetch(url, { ...own, signal }), signal).catch(() => null)
      if (answer?.status === 204 && answer.headers.has("stream-next-offset")) return
      await new Promise((over) => setTimeout(over, 10))
    }
  }
  const queue = (request) => (last = last.then(() => send(request)))
  return {
    append: (record) => queue({ headers, body: JSON.stringify([record]) }),
    close: () => queue({ headers: { "Stream-Closed": "true" } }),
  }
}

test("a writer that repeats itself is found", LIMIT, async () => {
  const verdicts = [301, 302, 303, 304].map((seed) => judgeWriter({ seed, seconds: SECONDS, endMs: END_MS, writer: insistent }))
  const faults = (await Promise.all(verdicts)).flatMap(({ faults }) => faults)
  assert.ok(faults.some((fault) => /again, or late/.test(fault)), `${faults}`)
})

test("a gap that is not told is found", LIMIT, async () => {
  const told = async function* (url, { signal, gap }, tells) {
    let hand = "-1"
    while (!signal.aborted) {
      const answer = await within(2_000, (own) => fetched(`${url}?offset=${hand}`, own), signal).catch(() => null)
      if (answer?.status === 410) {
        const { oldestOffset: to } = answer.body
        if (tells) gap({ from: hand, to })
        hand = to
      } else if (answer?.status === 200 && answer.headers.has("stream-next-offset")) {
        yield* answer.body
        hand = answer.headers.get("stream-next-offset")
        if (answer.headers.has("stream-closed")) return
      }
      await new Promise((over) => setTimeout(over, 300)) // Long enough to fall behind now and then.
    }
  }
  const faultsOf = async (tells) => {
    const base = { seconds: SECONDS, endMs: END_MS, kept: 20, follower: (url, options) => told(url, options, tells) }
    const verdicts = await Promise.all([401, 402].map((seed) => judgeGaps({ ...base, seed })))
    return verdicts.flatMap(({ faults }) => faults)
  }
  assert.deepEqual(await faultsOf(true), [])
  assert.notDeepEqual(await faultsOf(false), [])
})

async function fetched(url, signal) {
  const answer = await fetch(url, { signal })
  return { status: answer.status, headers: answer.headers, body: await answer.json() }
}
