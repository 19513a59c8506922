// The timeline of a panel: four lanes, one a transport, and in them what each has carried in the last minute.
import { colours, sharp } from "./dom.js"

export const TRANSPORTS = { websocket: "WebSocket", sse: "SSE", "long-poll": "Long poll", "short-poll": "Short poll" }

const NAMES = Object.keys(TRANSPORTS)
const WINDOW_MS = 60_000
const BUCKET_MS = 500
const LABEL_WIDTH = 78

export class Lanes {
  #canvas
  #buckets = new Map() // by time: how many records each transport brought
  #events = [] // when the network was changed

  constructor(canvas) {
    this.#canvas = canvas
  }

  /** A record came; without `count`, the transport carried the stream and there was nothing to carry. */
  add(transport, count = 1) {
    const at = Math.floor(Date.now() / BUCKET_MS)
    if (!this.#buckets.has(at)) this.#buckets.set(at, {})
    const bucket = this.#buckets.get(at)
    bucket[transport] = (bucket[transport] ?? 0) + count
  }

  mark(bad) {
    this.#events.push({ at: Date.now(), bad })
  }

  draw(current) {
    const now = Date.now()
    for (const at of this.#buckets.keys()) if (at * BUCKET_MS < now - WINDOW_MS - BUCKET_MS) this.#buckets.delete(at)
    this.#events = this.#events.filter(({ at }) => at > now - WINDOW_MS)
    const { pen, width, height } = sharp(this.#canvas)
    const [rule, soft, ink, warn] = colours("rule", "ink-soft", "ink", "bad")
    const tones = colours(...NAMES)
    const lane = height / NAMES.length
    const x = (at) => LABEL_WIDTH + ((at - now + WINDOW_MS) / WINDOW_MS) * (width - LABEL_WIDTH)
    pen.textBaseline = "middle"
    const face = getComputedStyle(document.body).fontFamily
    for (const [row, name] of NAMES.entries()) {
      const y = row * lane + lane / 2
      pen.font = `${name === current ? 600 : 400} 11px ${face}`
      pen.fillStyle = name === current ? ink : soft
      pen.fillText(TRANSPORTS[name], 0, y + 0.5)
      pen.fillStyle = rule
      pen.fillRect(LABEL_WIDTH, Math.round(y), width - LABEL_WIDTH, 1)
    }
    for (const { at, bad } of this.#events) {
      pen.fillStyle = bad ? warn : soft
      for (let y = 0; y < height; y += 5) pen.fillRect(Math.round(x(at)), y, 1, 3)
    }
    const step = ((width - LABEL_WIDTH) * BUCKET_MS) / WINDOW_MS
    for (const [at, counts] of this.#buckets) {
      for (const [name, count] of Object.entries(counts)) {
        const row = NAMES.indexOf(name)
        const left = Math.max(LABEL_WIDTH, x(at * BUCKET_MS))
        // At least a line, so that a quiet stream shows its transport, too.
        const tall = count ? Math.min(lane - 3, 5 + Math.sqrt(count) * 2) : 2
        pen.fillStyle = tones[row]
        pen.fillRect(left, row * lane + (lane - tall) / 2, Math.min(step, width - left) - (count ? 0.5 : 0), tall)
      }
    }
    const carried = NAMES.filter((name) => [...this.#buckets.values()].some((counts) => counts[name] > 0))
    const words = carried.map((name) => TRANSPORTS[name]).join(", ") || "none"
    if (this.#canvas.dataset.carried !== words) {
      this.#canvas.dataset.carried = words
      this.#canvas.setAttribute("aria-label", `Transports that carried records in the last minute: ${words}`)
    }
  }
}
