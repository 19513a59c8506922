/**
 * The weather of a seed: phases of storms with calm ones between them, drawn in advance. What happens is the seed's; when
 * exactly it meets which bytes is the machine's.
 */
import { FAULTS, faultsOf } from "./faults.mjs"
import { Random } from "./random.mjs"

const CALM_MS = [200, 900]
const STORM_MS = [300, 1_800]
const KINDS = ["websocket", "sse", "long-poll", "short-poll", "append"]

const STORMS = {
  "one fault": (random) => {
    const name = random.pick(Object.keys(FAULTS))
    const choose = (exchange) => (FAULTS[name].kinds.includes(exchange.kind) ? name : null)
    return { named: name, choose, strike: FAULTS[name].strikes ? choose : undefined }
  },
  "mixed faults": (random) => ({ choose: (exchange, draw) => (draw.chance(0.7) ? draw.pick(faultsOf(exchange.kind)) : null) }),
  "locked down": (random) => {
    const fixed = Object.fromEntries(KINDS.slice(0, random.between(1, 3)).map((kind) => [kind, random.pick(faultsOf(kind))]))
    return { named: JSON.stringify(fixed), choose: ({ kind }) => fixed[kind] ?? null, longer: 2 }
  },
  "cuts": (random) => ({ everyMs: random.between(100, 600), strike: () => "cut now" }),
  "strikes": (random) => ({ strike: (exchange, draw) => draw.pick([null, ...faultsOf(exchange.kind, { strikes: true })]) }),
  "silence": () => ({ strike: () => "goes silent" }),
  "no connections": () => ({ refusing: true, strike: (exchange, draw) => draw.pick([null, "cut now"]) }),
  "server drained": () => ({ drain: true }),
  "server killed": (random) => ({ kill: true, awayMs: random.pick([0, 0, 100, 500, 1_500]) }),
}

const REFUSED_MS = 1_000
const CLIMB_MS = 7_000 // It climbs after five seconds.
const OFTEN = ["one fault", "mixed faults", "mixed faults"]

export class Schedule {
  phases = []
  #draw

  constructor(seed, ms, { kills = true } = {}) {
    const random = new Random(seed, "schedule")
    this.#draw = new Random(seed, "faults")
    const storms = [...Object.keys(STORMS), ...OFTEN].filter((name) => kills || !name.startsWith("server"))
    for (let total = 0; total < ms; ) {
      const calm = { name: "calm", ms: random.between(...CALM_MS) }
      const name = random.pick(storms)
      const storm = { name, ...STORMS[name](random), ms: random.between(...STORM_MS) }
      if (storm.longer) storm.ms *= storm.longer
      this.phases.push(calm, storm)
      total += calm.ms + storm.ms
    }
  }

  /** Lets it pass over the proxy and the server; at the end all is calm, but what was struck stays so. */
  async pass(proxy, server) {
    for (const phase of this.phases) {
      proxy.note(`--- ${phase.name} ${phase.named ?? ""} for ${phase.ms} ms`)
      const make = (choose) => (exchange) => {
        const name = choose(exchange, this.#draw)
        if (name) proxy.note(`#${exchange.number} ${exchange.kind} struck: ${name}`)
        return name ? FAULTS[name].make(this.#draw) : null
      }
      proxy.choose = phase.choose ? (exchange) => FAULTS[phase.choose(exchange, this.#draw)]?.make(this.#draw) : () => null
      proxy.refusing = Boolean(phase.refusing)
      const strike = () => proxy.strike(make(phase.strike))
      if (phase.strike) strike()
      const again = phase.everyMs && setInterval(strike, phase.everyMs)
      const restarted = phase.kill ? server.restart(phase.awayMs) : phase.drain ? server.drain() : null
      await new Promise((over) => setTimeout(over, phase.ms))
      clearInterval(again)
      await restarted
    }
    proxy.choose = () => null
    proxy.refusing = false
    proxy.note("--- calm from here on")
  }
}

/**
 * What makes a reader fall and climb back: the better ways are refused for a while, then nothing is, then again. Some ways
 * are slow, so that of two that read the same records the one or the other is ahead.
 */
export class Climbs {
  phases = []
  #draw

  constructor(seed, ms) {
    this.#draw = new Random(seed, "climbs")
    for (let total = 0; total < ms; total += REFUSED_MS + CLIMB_MS) {
      const slow = KINDS.filter(() => this.#draw.chance(0.4))
      this.phases.push({ name: "refused", refused: this.#draw.pick([["websocket"], ["websocket", "sse"]]), slow, ms: REFUSED_MS })
      this.phases.push({ name: "climb", refused: [], slow, ms: CLIMB_MS })
    }
  }

  async pass(proxy) {
    for (const { name, refused, slow, ms } of this.phases) {
      proxy.note(`--- ${name} ${refused}, slow are ${slow} for ${ms} ms`)
      proxy.choose = ({ kind }) => {
        if (refused.includes(kind)) return FAULTS["502"].make(this.#draw)
        return slow.includes(kind) ? FAULTS["slow"].make(this.#draw) : null
      }
      proxy.strike(({ kind }) => (refused.includes(kind) ? FAULTS["cut now"].make(this.#draw) : null))
      await new Promise((over) => setTimeout(over, ms))
    }
    proxy.choose = () => null
    proxy.note("--- calm from here on")
  }
}
