// Whether the records came each once and in order, judged by their own count `n` that goes up by one.
//
// Promises: `lost` is what is missing now (one that arrives late moves to `disordered`). A count that starts
// anew with a later time `at` is a producer that was restarted, not a fault.

const MISSING_MAX = 10_000; // numbers remembered as missing, so that a wild `n` cannot eat the memory

export class Continuity {
  lost = 0;
  doubled = 0;
  disordered = 0;
  #judged = false;
  #last = null;
  #at = -Infinity;
  #missing = new Set();

  take(record) {
    if (record === null || typeof record !== "object" || !Number.isSafeInteger(record.n)) return;
    const { n } = record;
    this.#judged = true;
    const at = typeof record.at === "number" ? record.at : -Infinity;
    const anew = this.#last !== null && n <= this.#last && at > this.#at;
    if (this.#last === null || anew) this.#missing.clear();
    else if (n > this.#last + 1) this.#miss(this.#last + 1, n);
    else if (n <= this.#last) return this.#late(n);
    this.#last = n;
    this.#at = Math.max(this.#at, at);
  }

  /** Whether any record carried a count to judge by. */
  get judged() {
    return this.#judged;
  }

  /** A gap was told: what lies in it is accounted for. */
  forgive() {
    this.#last = null;
    this.#missing.clear();
  }

  #miss(from, to) {
    this.lost += to - from;
    for (let n = from; n < to && this.#missing.size < MISSING_MAX; n += 1) this.#missing.add(n);
  }

  #late(n) {
    if (!this.#missing.delete(n)) {
      this.doubled += 1;
      return;
    }
    this.lost -= 1;
    this.disordered += 1;
  }
}
