// A panel's network: its URLs, through the relay where there is one, and the buttons that make it worse.
import { el } from "./dom.js"

const FAULTS = [
  { name: "Block WebSocket", member: "blockWebsocket", bad: true, good: false },
  { name: "Buffer SSE", member: "bufferSse", bad: true, good: false },
  { name: "Cut every 3 s", member: "cutEveryMs", bad: 3_000, good: 0 },
  { name: "500 ms latency", member: "latencyMs", bad: 500, good: 0 },
  { name: "Offline", member: "offline", bad: true, good: false },
]

export class Network {
  #token
  #base
  #faults = {}
  #buttons
  #onChange

  /** `relay` is its origin, nothing where this browser cannot reach it. */
  constructor(relay, token, place, onChange) {
    this.#token = token
    this.#base = relay ? `${relay}/w/${token}` : ""
    this.#onChange = onChange
    this.#buttons = FAULTS.map((fault) => {
      const button = el("button", { type: "button", textContent: fault.name, disabled: !relay })
      button.dataset.fault = fault.member
      button.setAttribute("aria-pressed", "false")
      button.addEventListener("click", () => this.#toggle(fault))
      return button
    })
    place.append(...this.#buttons)
    if (relay) this.#ask()
    else place.append(el("p", { className: "hint", textContent: "Only in a browser on the server’s own machine." }))
  }

  /** Where a stream is, as this panel reaches it. */
  url(stream) {
    return `${this.#base || location.origin}/v1/stream/${stream}`
  }

  async #toggle(fault) {
    const on = this.#faults[fault.member] === fault.bad
    await this.#ask({ ...this.#faults, [fault.member]: on ? fault.good : fault.bad })
    this.#onChange(on ? "" : fault.name)
  }

  async #ask(faults) {
    const body = faults && JSON.stringify(faults)
    const answer = await fetch(`/demo/network/${this.#token}`, { method: body ? "PUT" : "GET", body })
    if (!answer.ok) return
    this.#faults = await answer.json()
    for (const [place, { member, bad }] of FAULTS.entries()) {
      this.#buttons[place].setAttribute("aria-pressed", String(this.#faults[member] === bad))
    }
  }
}
