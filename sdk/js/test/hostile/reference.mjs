// A follower that is right because it is simple: short polls, one after the other, nothing believed that is not whole.
// And the same one with mistakes that a hurried client makes; the harness has to find each of them.

import { within } from "./deadline.mjs"

const PAUSE_MS = 15
const ANSWER_MS = 2_000
const OFFSET = /^[0-9a-f]{12}_\d{16}$/

export const MISTAKES = {
  "reads on from the tail after a fault": { afterFault: () => "now" },
  "reads the last answer again after a fault": { afterFault: (_, before) => before },
  "believes a status without looking at the body": { careless: true },
  "hands out the same batch twice now and then": { twice: 12 },
  "loses a record now and then": { loses: 10 },
  "swaps two records now and then": { swaps: 12 },
  "takes silence for the end": { endsAfterFaults: 4 },
}

/** An async iterable of records of a JSON stream. */
export async function* reference(url, { offset = "-1", signal, mistake = {} } = {}) {
  let hand = offset
  let before = offset
  let answers = 0
  let faults = 0
  while (!signal?.aborted) {
    try {
      const ask = async (signal) => {
        const answer = await fetch(`${url}?offset=${hand}`, { signal })
        const next = answer.headers.get("stream-next-offset")
        if (answer.status !== 200 || !OFFSET.test(next ?? "")) throw new Error(`not an answer of the server: ${answer.status}`)
        const body = answer.json()
        const records = await (mistake.careless ? body.catch(() => []) : body)
        return { records, next, closed: answer.headers.has("stream-closed") }
      }
      const answer = await within(ANSWER_MS, ask, signal)
      let { records } = answer
      if (records.length > 0) answers += 1
      if (answers % mistake.twice === 0) records = [...records, ...records]
      if (answers % mistake.swaps === 0) records = records.reverse()
      if (answers % mistake.loses === 0) records.shift()
      before = hand
      hand = answer.next
      yield* records
      if (answer.closed) return
    } catch {
      faults += 1
      if (faults === mistake.endsAfterFaults) return
      hand = mistake.afterFault?.(hand, before) ?? hand
    }
    await new Promise((over) => setTimeout(over, PAUSE_MS))
  }
}
