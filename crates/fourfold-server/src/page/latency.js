// The median time from a record's `at` (unix milliseconds) to its arrival here.

const WINDOW = 100;

export class Latency {
  #times = [];
  #since = Date.now();

  /** A connection begins: records older than it say how long we were away, not how long they travelled. */
  begin() {
    this.#since = Date.now();
  }

  take(record) {
    if (record === null || typeof record !== "object" || typeof record.at !== "number") return;
    if (record.at < this.#since) return;
    this.#times.push(Date.now() - record.at);
    if (this.#times.length > WINDOW) this.#times.shift();
  }

  /** In milliseconds, or `null` as long as there is none. */
  get median() {
    if (this.#times.length === 0) return null;
    const sorted = this.#times.toSorted((a, b) => a - b);
    const middle = sorted.length >> 1;
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }
}
