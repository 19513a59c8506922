// An independent account of a stream: plain short polls, straight to the server. What they say was appended is compared, record by
// record, with what the client delivered.

const EVERY_MS = 1_000
const HIDDEN_MS = 5_000
const RECENT_MAX = 4_000 // A record that comes again after so many others is counted as unknown, not as doubled.

export class Witness {
  appended = 0
  received = 0
  lost = 0
  doubled = 0
  #url
  #offset
  #skip
  #expected = []
  #got = []
  #recent = new Set()
  #timer
  #stopped = false

  /** From an offset, also one with `+` and a count of records behind it. */
  constructor(url, offset) {
    this.#url = url
    const [token, skip] = offset.split("+")
    this.#offset = token
    this.#skip = Number(skip ?? 0)
    this.#poll()
  }

  /** The client has delivered a record. */
  got(record) {
    this.received += 1
    this.#got.push(JSON.stringify(record))
    this.#compare()
  }

  /** Retention dropped what the client wanted: both go on behind it. */
  gap() {
    this.#expected.length = 0
  }

  stop() {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  async #poll() {
    try {
      const answer = await fetch(`${this.#url}?offset=${this.#offset}`, { cache: "no-store" })
      if (this.#stopped) return
      if (answer.status === 410) this.#offset = (await answer.json()).oldestOffset ?? this.#offset
      if (answer.ok) {
        const records = await answer.json()
        this.#offset = answer.headers.get("Stream-Next-Offset")
        const fresh = records.slice(this.#skip)
        this.#skip = Math.max(0, this.#skip - records.length)
        this.appended += fresh.length
        this.#expected.push(...fresh.map((record) => JSON.stringify(record)))
        this.#compare()
        if (answer.headers.has("Stream-Closed")) return
        if (!answer.headers.has("Stream-Up-To-Date")) return this.#poll()
      }
    } catch {
      // The server is away; it is asked again.
    }
    if (!this.#stopped) this.#timer = setTimeout(() => this.#poll(), document.hidden ? HIDDEN_MS : EVERY_MS)
  }

  #compare() {
    while (this.#expected.length && this.#got.length) {
      const [record] = this.#got
      const ahead = this.#expected.indexOf(record)
      if (ahead >= 0) {
        this.lost += ahead
        this.#expected.splice(0, ahead + 1)
        this.#recent.add(record)
        if (this.#recent.size > RECENT_MAX) this.#recent.delete(this.#recent.values().next().value)
      } else if (this.#recent.has(record)) this.doubled += 1
      else return // The witness has not seen it yet.
      this.#got.shift()
    }
  }
}
