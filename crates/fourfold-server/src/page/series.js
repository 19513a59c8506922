// The numbers in a stream's records, as the lines to be drawn: for a machine's vitals a chosen set, else the first
// few numbers found in the records, else how many records come in a second.

export const POINTS = 240;
const CHARTS_MAX = 4;

const VITALS = [
  { label: "Load", unit: "load", atLeast: 0.5, lines: [{ key: "load" }] },
  { label: "Memory", unit: "percent", atLeast: 100, lines: [{ key: "memory" }] },
  {
    label: "Network",
    unit: "bytesPerSecond",
    atLeast: 1000,
    lines: [{ key: "net_in", label: "in" }, { key: "net_out", label: "out" }],
  },
  {
    label: "Disk",
    unit: "bytesPerSecond",
    atLeast: 1000,
    lines: [{ key: "disk_read", label: "read" }, { key: "disk_write", label: "write" }],
  },
];
const RATE = [{ label: "Records per second", unit: "plain", atLeast: 1, lines: [{ key: "rate" }] }];

export class Series {
  charts = RATE;
  #points = new Map([["rate", []]]);
  #arrived = 0;

  /** Resolves which charts there are anew when the records turn out to hold numbers. */
  take(records) {
    this.#arrived += records.length;
    // Only the newest can still be seen once the whole batch is in.
    for (const record of records.slice(-POINTS)) {
      if (this.charts === RATE) this.charts = chartsOf(record) ?? RATE;
      if (this.charts === RATE) continue;
      for (const { lines } of this.charts) {
        for (const { key } of lines) this.#push(key, valueAt(record, key));
      }
    }
  }

  /** A second has passed. */
  tick() {
    this.#push("rate", this.#arrived);
    this.#arrived = 0;
  }

  points(key) {
    return this.#points.get(key) ?? [];
  }

  #push(key, value) {
    if (typeof value !== "number" || !Number.isFinite(value)) return;
    if (!this.#points.has(key)) this.#points.set(key, []);
    const points = this.#points.get(key);
    points.push(value);
    if (points.length > POINTS) points.shift();
  }
}

function chartsOf(record) {
  if (typeof record === "number") return [{ label: "Value", unit: "plain", lines: [{ key: "" }] }];
  if (record === null || typeof record !== "object") return null;
  if (typeof record.load === "number" && typeof record.memory === "number") return VITALS;
  const keys = Object.keys(record).filter((key) => typeof record[key] === "number" && key !== "n" && key !== "at");
  if (keys.length === 0) return null;
  return keys.slice(0, CHARTS_MAX).map((key) => ({ label: key.slice(0, 40), unit: "plain", lines: [{ key }] }));
}

function valueAt(record, key) {
  if (key === "") return record;
  return record !== null && typeof record === "object" && Object.hasOwn(record, key) ? record[key] : undefined;
}
