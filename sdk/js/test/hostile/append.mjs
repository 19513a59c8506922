// A writer that appends directly to the server, through its restarts, and knows exactly what was acknowledged.

import { within } from "./deadline.mjs"

const RETRY_MS = 20 // While the server is away.
const ANSWER_MS = 10_000

export class DirectWriter {
  /** All that is acknowledged, in order, in comparable form; and the offset behind each append, with how many were before. */
  acked = []
  offsets = []
  /** How many were sent at least once. */
  sent = 0
  #url
  #sort
  #random
  #seq = 0

  constructor(url, sort, random) {
    this.#url = url
    this.#sort = sort
    this.#random = random
  }

  static async create(url, sort, headers = {}) {
    await insist(url, { method: "PUT", headers: { "Content-Type": sort.contentType, ...headers } }, [200, 201])
  }

  /** Appends one batch; resolves when it is durable. */
  async append(count = this.#random.between(1, this.#sort.batchMax)) {
    const records = Array.from({ length: count }, (_, step) => this.#sort.record(this.acked.length + step, this.#random))
    this.sent = this.acked.length + count
    const headers = {
      "Content-Type": this.#sort.contentType,
      "Producer-Id": "direct",
      "Producer-Epoch": "0",
      "Producer-Seq": String(this.#seq++),
    }
    const answer = await insist(this.#url, { method: "POST", headers, body: this.#sort.body(records) }, [200, 204])
    this.acked.push(...records.map(this.#sort.comparable))
    this.offsets.push({ offset: answer.headers.get("stream-next-offset"), count: this.acked.length })
  }

  /** Appends until `signal` says stop, at an uneven pace. */
  async appendUntil(signal, paceMs = 25) {
    while (!signal.aborted) {
      await this.append()
      // Now a burst, now a pause: readers are at the tail, behind it, and in a long poll that waits.
      const pause = this.#random.chance(0.02) ? 600 : this.#random.chance(0.3) ? 0 : this.#random.between(0, 2 * paceMs)
      if (pause > 0) await new Promise((over) => setTimeout(over, pause))
    }
  }

  async close() {
    await insist(this.#url, { method: "POST", headers: { "Stream-Closed": "true" } }, [200, 204])
  }
}

/** All records of a stream, read by the base protocol, directly. */
export async function readAll(url, sort) {
  const records = []
  for (let offset = "-1"; ; ) {
    const answer = await insist(`${url}?offset=${offset}`, {}, [200])
    if (sort.contentType !== "application/json") throw new Error("other streams have no boundaries here")
    records.push(...JSON.parse(answer.text).map(sort.comparable))
    offset = answer.headers.get("stream-next-offset")
    if (answer.headers.get("stream-up-to-date") || answer.headers.get("stream-closed")) return records
  }
}

// The server is killed now and then: the same request again is what the producer's sequence is for.
async function insist(url, request, statuses) {
  for (;;) {
    try {
      const answer = await within(ANSWER_MS, async (signal) => {
        const answer = await fetch(url, { ...request, signal })
        return { status: answer.status, headers: answer.headers, text: await answer.text() }
      })
      if (statuses.includes(answer.status)) return answer
      if (answer.status < 500) throw new Refused(`${request.method ?? "GET"} ${url}: ${answer.status} ${answer.text}`)
    } catch (error) {
      if (error instanceof Refused) throw error
    }
    await new Promise((over) => setTimeout(over, RETRY_MS))
  }
}

class Refused extends Error {}
