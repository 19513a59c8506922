/**
 * What a network does to an exchange, one entry each: `kinds` it can happen to, `make(random)` for one exchange.
 *
 * A fault has a name and any of: `answer(exchange)`, the proxy's own answer instead of the server's; `begin(exchange)`;
 * `down(piece, exchange)` and `up(bytes, exchange)`, which pass on what they want with `toClient` and `toServer`;
 * `end(exchange)` when the answer is complete; `serverGone(exchange)`; `over(exchange)`, to clear timers. It may call
 * `exchange.cut("fin" | "rst")`. With `mute` it never lets the client know that the server has gone; `loses` names the
 * directions in which it keeps bytes back.
 * `strikes` marks those that make sense in the middle of an exchange as well as at its beginning.
 */

const HTTP = ["sse", "long-poll", "short-poll", "append"]
const STREAMED = ["websocket", "sse"]
const ALL = ["websocket", ...HTTP]
const READS = ["sse", "long-poll", "short-poll"]

const PORTAL = "<!doctype html><title>Welcome</title><h1>Café · please log in 🛜</h1><form action=/login></form>"
const pass = (piece, exchange) => exchange.toClient(piece.raw)

export const FAULTS = {
  "upgrade refused with 400": own(["websocket"], (exchange) => exchange.reply(400, "text/plain", "Bad Request")),
  "upgrade refused with 502": own(["websocket"], (exchange) => exchange.reply(502, "text/html", "<h1>Bad Gateway</h1>")),
  "upgrade refused with 403 HTML": own(["websocket"], (exchange) => exchange.reply(403, "text/html", "<h1>Forbidden</h1>")),
  "upgrade answered by 200 HTML": own(["websocket"], (exchange) => exchange.reply(200, "text/html", PORTAL)),
  "upgrade dropped": own(["websocket"], (exchange) => exchange.cut("fin")),
  "upgrade never answered": { kinds: ["websocket"], make: () => ({ answer() {}, mute: true }) },

  "swallows from the beginning": {
    kinds: STREAMED,
    strikes: true,
    make: () => ({ mute: true, loses: ["down"], down: (piece, exchange) => piece.part === "head" && pass(piece, exchange) }),
  },
  "swallows what comes later": {
    kinds: STREAMED,
    make: (random) => {
      const from = random.between(300, 4_000)
      return { mute: true, loses: ["down"], down: (piece, exchange) => exchange.received < from && pass(piece, exchange) }
    },
  },
  "swallows what the client sends": {
    kinds: ["websocket"],
    strikes: true,
    make: () => ({ loses: ["up"], up: (bytes, exchange) => !exchange.tunnel && exchange.toServer(bytes) }),
  },
  "buffers until the end": {
    kinds: READS,
    make: (random) => buffering(random.chance(0.5), Infinity),
  },
  "buffers until there is enough": {
    kinds: [...READS, "websocket"],
    make: (random) => buffering(random.chance(0.5), random.between(512, 8_192)),
  },
  "goes silent": {
    kinds: ALL,
    strikes: true,
    make: () => ({ mute: true, loses: ["up", "down"], up() {}, down() {} }),
  },

  "cut at a byte": { kinds: ALL, make: (random) => cutAt(soon(random, 4_000), end(random)) },
  "cut in the headers": {
    kinds: ALL,
    make: (random) => {
      const share = random.fraction()
      const how = end(random)
      const down = (piece, exchange) => {
        if (piece.part !== "head") return pass(piece, exchange)
        exchange.toClient(piece.raw.subarray(0, Math.floor(piece.raw.length * share)))
        exchange.cut(how)
      }
      return { down }
    },
  },
  "cut in a character": {
    kinds: ["websocket", ...READS],
    make: (random) => {
      let patience = soon(random, 1_500)
      const down = (piece, exchange) => {
        if (piece.part === "head" || piece.part === "framing") return pass(piece, exchange)
        const at = patience > piece.raw.length ? -1 : piece.raw.findIndex((byte, place) => place >= patience && byte >= 0xc2)
        patience = Math.max(0, patience - piece.raw.length)
        if (at < 0) return pass(piece, exchange)
        exchange.toClient(piece.raw.subarray(0, at + 1))
        exchange.cut("fin")
      }
      return { down }
    },
  },
  "cut behind the body": {
    kinds: HTTP,
    make: () => ({
      down: (piece, exchange) => {
        // Of a chunked body all but the end that says so.
        if (!piece.last || piece.part !== "framing") pass(piece, exchange)
        if (piece.last) exchange.cut(piece.part === "framing" ? "fin" : "rst")
      },
    }),
  },
  "body cut short, ended as if whole": {
    kinds: ["sse", "long-poll", "short-poll"],
    make: (random) => endedByClose(soon(random, 1_500)),
  },
  "cut now": {
    kinds: ALL,
    strikes: true,
    make: (random) => ({ begin: (exchange) => exchange.cut(end(random)) }),
  },
  "cut when the request is through": {
    kinds: ["append", "short-poll", "long-poll"],
    make: (random) => ({ down: (_, exchange) => exchange.cut(end(random)) }),
  },

  "slow": {
    kinds: ALL,
    make: (random) => {
      const latency = random.between(20, 400)
      const delay = () => latency + random.between(0, 200)
      return {
        up: (bytes, exchange) => exchange.toServer(bytes, delay()),
        down: (piece, exchange) => exchange.toClient(piece.raw, delay()),
      }
    },
  },
  "in small pieces": {
    kinds: ALL,
    make: (random) => ({
      down: ({ raw }, exchange) => {
        for (let at = 0; at < raw.length; ) {
          const size = Math.max(1, random.between(1, Math.max(1, raw.length >> 3)))
          exchange.toClient(raw.subarray(at, at + size), random.chance(0.2) ? 2 : 0)
          at += size
        }
      },
    }),
  },
  "idle connections killed": {
    kinds: ALL,
    make: (random) => {
      const idleMs = random.between(300, 3_000)
      let timer
      const wake = (exchange) => {
        clearTimeout(timer)
        timer = setTimeout(() => exchange.cut(end(random)), idleMs)
      }
      return {
        begin: wake,
        up: (bytes, exchange) => (wake(exchange), exchange.toServer(bytes)),
        down: (piece, exchange) => (wake(exchange), pass(piece, exchange)),
        over: () => clearTimeout(timer),
      }
    },
  },

  "502": own(HTTP, (exchange) => exchange.reply(502, "text/html", "<h1>Bad Gateway</h1>")),
  "503": own(HTTP, (exchange) => exchange.reply(503, "text/plain", "busy", { "Retry-After": 1 })),
  "503 until a date": own(HTTP, (exchange) => {
    const until = new Date(Date.now() + 1_000).toUTCString()
    exchange.reply(503, "text/plain", "busy", { "Retry-After": until })
  }),
  "429": own(HTTP, (exchange) => exchange.reply(429, "text/plain", "too many", { "Retry-After": 1 })),
  "403 HTML": own(READS, (exchange) => exchange.reply(403, "text/html", "<h1>Blocked by your administrator</h1>")),
  "captive portal": own(HTTP, (exchange) => exchange.reply(200, "text/html; charset=utf-8", PORTAL)),
  "captive portal elsewhere": own(READS, (exchange) => exchange.reply(302, "text/html", PORTAL, { Location: "/portal" })),
  "204 of its own": own(HTTP, (exchange) => exchange.reply(204, "", "")),
  "empty 200": own(HTTP, (exchange) => exchange.reply(200, "", "")),
}
for (const [name, fault] of Object.entries(FAULTS)) {
  const { make } = fault
  fault.make = (random) => ({ ...make(random), name })
}

/** Those that can happen to an exchange of this kind. */
export function faultsOf(kind, { strikes = false } = {}) {
  return Object.keys(FAULTS).filter((name) => FAULTS[name].kinds.includes(kind) && (!strikes || FAULTS[name].strikes))
}

/** What the portal's page is, for `proxy.pages`. */
export const portalPage = { type: "text/html; charset=utf-8", body: PORTAL }

function own(kinds, answer) {
  return { kinds, make: () => ({ answer }) }
}

// Most answers are short: a place that is more often near the beginning.
function soon(random, bytesMax) {
  return Math.floor(bytesMax * random.fraction() ** 3)
}

function end(random) {
  return random.chance(0.5) ? "fin" : "rst"
}

function cutAt(byte, how) {
  let left = byte
  const down = (piece, exchange) => {
    const part = piece.raw.subarray(0, left)
    left -= part.length
    exchange.toClient(part)
    if (left === 0) exchange.cut(how)
  }
  return { down }
}

function buffering(headAtOnce, enough) {
  let held = []
  let bytes = 0
  const flush = (exchange) => {
    for (const raw of held) exchange.toClient(raw)
    held = []
    bytes = 0
  }
  const down = (piece, exchange) => {
    if (piece.part === "head" && (headAtOnce || exchange.kind === "websocket")) return pass(piece, exchange)
    held.push(piece.raw)
    bytes += piece.raw.length
    if (bytes >= enough) flush(exchange)
  }
  return { down, loses: ["down"], end: flush, serverGone: flush }
}

// As HTTP/1.0 proxies do: nothing says how long the body is, and where it was cut looks like its end.
function endedByClose(bytes) {
  let left = bytes
  const down = (piece, exchange) => {
    if (piece.part === "head") {
      const head = piece.raw.toString("latin1").replace(/^(content-length|transfer-encoding|connection):.*\r\n/gim, "")
      const bodiless = piece.last && piece.answer.status !== 200
      return exchange.toClient(bodiless ? piece.raw : Buffer.from(head.replace(/\r\n\r\n$/, "\r\nConnection: close\r\n\r\n"), "latin1"))
    }
    const part = (piece.body ?? Buffer.alloc(0)).subarray(0, left)
    left -= part.length
    exchange.toClient(part)
    if (left === 0 || piece.last) exchange.cut("fin")
  }
  return { down }
}
