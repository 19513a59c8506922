// How a panel's streams are carried: the followers, what carries them now, the count of what arrived, and the network's faults.
import { follow } from "./fourfold.js"
import { slots } from "./dom.js"
import { Lanes, TRANSPORTS } from "./lanes.js"
import { Network } from "./network.js"
import { Witness } from "./witness.js"

const DRAW_MS = 250

export class Carriage {
  #panel
  #parts
  #lanes
  #network
  #lines = new Map() // by stream
  #leading
  #past = { received: 0, appended: 0, lost: 0, doubled: 0 } // of streams that are followed no more

  /** In the panel with this id; its network is the visitor's own. */
  constructor(id, { relay, visitor }) {
    this.#panel = document.getElementById(id)
    this.#panel.append(document.getElementById("carriage").content.cloneNode(true))
    this.#parts = slots(this.#panel.querySelector(".carriage"))
    this.#lanes = new Lanes(this.#parts.lanes)
    this.#network = new Network(relay, `${visitor}-${id}`, this.#parts.faults, (bad) => this.#lanes.mark(bad))
    setInterval(() => this.#draw(), DRAW_MS)
  }

  /** The stream's URL through this panel's network. */
  url(stream) {
    return this.#network.url(stream)
  }

  /** Follows a stream. `start` is an offset; `remember` as the client takes it; `leads`: its state is the panel's. */
  async follow(stream, { start = "-1", remember, leads, onRecord, onState, onGap, onEnd }) {
    const straight = `${location.origin}/v1/stream/${stream}`
    const from = (await remember?.load()) ?? (start === "now" ? await tailOf(straight) : start)
    const witness = new Witness(straight, from)
    const line = { witness }
    this.#lines.set(stream, line)
    if (leads || !this.#leading) this.#leading = stream
    line.following = follow(this.#network.url(stream), {
      offset: from,
      remember,
      onState: (state) => {
        onState?.(state)
        this.#draw()
      },
      onGap(gap) {
        witness.gap()
        onGap?.(gap)
      },
      onRecord: (record) => {
        witness.got(record)
        this.#lanes.add(transportOf(line.following.state) ?? line.transport)
        onRecord(record)
      },
    })
    line.following.on("end", () => onEnd?.())
    this.#draw()
    return line.following
  }

  /** This stream's state is shown from now on. */
  lead(stream) {
    this.#leading = stream
    this.#draw()
  }

  leave(stream) {
    const line = this.#lines.get(stream)
    if (!line) return
    this.#lines.delete(stream)
    line.following.stop()
    line.witness.stop()
    for (const name of Object.keys(this.#past)) this.#past[name] += line.witness[name]
  }

  #draw() {
    for (const line of this.#lines.values()) line.transport = transportOf(line.following?.state) ?? line.transport
    const state = this.#lines.get(this.#leading)?.following?.state ?? (this.#lines.size ? { name: "connecting", transport: "websocket" } : { name: "idle" })
    const transport = transportOf(state)
    const { dataset } = this.#panel
    dataset.state = state.name
    dataset.transport = transport ?? ""
    say(this.#parts.state, words(state))
    const sums = { ...this.#past }
    for (const { witness } of this.#lines.values()) for (const name of Object.keys(sums)) sums[name] += witness[name]
    sums.appended = Math.max(sums.appended, sums.received) // The witness looks once a second.
    for (const [name, sum] of Object.entries(sums)) {
      dataset[name] = sum
      say(this.#parts[name], sum.toLocaleString("en"))
      if (name === "lost" || name === "doubled") this.#parts[name].classList.toggle("bad", sum > 0)
    }
    if (state.name === "live") this.#lanes.add(transport, 0)
    this.#lanes.draw(transport)
  }
}

const transportOf = (state) => (state?.name === "live" || state?.name === "catching up" || state?.name === "connecting" ? state.transport : undefined)

function words(state) {
  if (state.name === "connecting") return `trying ${TRANSPORTS[state.transport]}`
  if (state.name === "waiting") return `waiting ${Math.max(0, Math.ceil((state.until - Date.now()) / 1000))} s: ${state.why}`
  if (state.name === "idle") return "nothing to follow yet"
  if (state.name === "closed") return "complete: the stream is closed"
  if (state.name === "refused") return `refused: ${state.problem.title}`
  return `${state.name} · ${TRANSPORTS[state.transport]}`
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text
}

/** Where the stream ends now, asked straight. */
async function tailOf(url) {
  for (;;) {
    try {
      const { headers } = await fetch(`${url}?offset=now`, { cache: "no-store" })
      if (headers.has("Stream-Next-Offset")) return headers.get("Stream-Next-Offset")
    } catch {
      // Asked again.
    }
    await new Promise((wake) => setTimeout(wake, 500))
  }
}
