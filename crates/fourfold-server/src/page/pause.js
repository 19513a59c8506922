// Waiting: a pause that can be cut short, and how long to wait after each failure in a row.

const FIRST_MS = 500;
const LONGEST_MS = 15_000;

export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal.addEventListener("abort", stop, { once: true });
  });
}

/** Doubles with each failure, with full jitter so that many pages do not come back as one. */
export class Backoff {
  #failures = 0;

  next(atLeast) {
    const span = Math.min(LONGEST_MS, FIRST_MS * 2 ** this.#failures);
    this.#failures += 1;
    return (atLeast ?? 0) + span * (0.5 + Math.random() / 2);
  }

  reset() {
    this.#failures = 0;
  }
}
