// Where requests and answers begin and end on an HTTP/1.1 connection. Bytes are taken apart, never changed: the `raw` of
// all pieces, joined, is what came in.

const HEAD_END = Buffer.from("\r\n\r\n")
const HEAD_BYTES_MAX = 64 * 1024

/** Takes the requests of a client apart: `feed` returns pieces `{ part, raw, last }`, a head has `request` as well. */
export class Requests {
  #waiting = Buffer.alloc(0)
  #left = 0 // of the body

  feed(bytes) {
    this.#waiting = Buffer.concat([this.#waiting, bytes])
    const pieces = []
    while (this.#waiting.length > 0) {
      if (this.#left > 0) {
        const raw = this.#take(Math.min(this.#left, this.#waiting.length))
        this.#left -= raw.length
        pieces.push({ part: "body", raw, last: this.#left === 0 })
        continue
      }
      const end = headEnd(this.#waiting)
      if (end < 0) break
      const raw = this.#take(end)
      const { first, headers } = parseHead(raw)
      const [method, target] = first.split(" ")
      if (/chunked/i.test(headers["transfer-encoding"] ?? "")) throw new Error("no client of ours sends chunked bodies")
      this.#left = Number(headers["content-length"] ?? 0)
      pieces.push({ part: "head", raw, last: this.#left === 0, request: { method, target, headers } })
      if (headers.upgrade) {
        if (this.#waiting.length > 0) pieces.push({ part: "tunnel", raw: this.#take(this.#waiting.length), last: false })
        break
      }
    }
    return pieces
  }

  #take(count) {
    const taken = this.#waiting.subarray(0, count)
    this.#waiting = this.#waiting.subarray(count)
    return taken
  }
}

/** Takes one answer apart: pieces `{ part, raw, body?, last }`; `body` is free of chunk framing; a head has `answer`. */
export class Answer {
  #waiting = Buffer.alloc(0)
  #method
  #state = "head"
  #left = 0
  #headLength = 0

  constructor(method) {
    this.#method = method
  }

  get ended() {
    return this.#state === "ended"
  }

  get headLength() {
    return this.#headLength
  }

  feed(bytes) {
    this.#waiting = Buffer.concat([this.#waiting, bytes])
    const pieces = []
    for (let piece = this.#next(); piece; piece = this.#next()) pieces.push(piece)
    return pieces
  }

  #next() {
    if (this.#waiting.length === 0) return null
    switch (this.#state) {
      case "head":
        return this.#head()
      case "tunnel":
      case "until close": {
        const raw = this.#take(this.#waiting.length)
        return { part: this.#state === "tunnel" ? "tunnel" : "body", raw, body: raw, last: false }
      }
      case "length": {
        const raw = this.#take(Math.min(this.#left, this.#waiting.length))
        this.#left -= raw.length
        if (this.#left === 0) this.#state = "ended"
        return { part: "body", raw, body: raw, last: this.ended }
      }
      case "chunk size": {
        const end = this.#waiting.indexOf("\r\n")
        if (end < 0) return null
        const raw = this.#take(end + 2)
        this.#left = parseInt(raw.toString("latin1"), 16)
        this.#state = this.#left === 0 ? "trailer" : "chunk"
        return { part: "framing", raw, last: false }
      }
      case "chunk": {
        const raw = this.#take(Math.min(this.#left, this.#waiting.length))
        this.#left -= raw.length
        if (this.#left === 0) this.#state = "chunk end"
        return { part: "body", raw, body: raw, last: false }
      }
      case "chunk end":
        if (this.#waiting.length < 2) return null
        this.#state = "chunk size"
        return { part: "framing", raw: this.#take(2), last: false }
      case "trailer": {
        const end = this.#waiting.indexOf("\r\n")
        if (end < 0) return null
        if (end === 0) this.#state = "ended"
        return { part: "framing", raw: this.#take(end + 2), last: this.ended }
      }
      default:
        throw new Error("bytes behind the end of an answer")
    }
  }

  #head() {
    const end = headEnd(this.#waiting)
    if (end < 0) return null
    const raw = this.#take(end)
    const { first, headers } = parseHead(raw)
    const status = Number(first.split(" ")[1])
    this.#headLength = raw.length
    if (status === 101) this.#state = "tunnel"
    else if (status === 204 || status === 304 || this.#method === "HEAD") this.#state = "ended"
    else if (/chunked/i.test(headers["transfer-encoding"] ?? "")) this.#state = "chunk size"
    else if (headers["content-length"] === undefined) this.#state = "until close"
    else {
      this.#left = Number(headers["content-length"])
      this.#state = this.#left === 0 ? "ended" : "length"
    }
    return { part: "head", raw, last: this.ended, answer: { status, headers } }
  }

  #take(count) {
    const taken = this.#waiting.subarray(0, count)
    this.#waiting = this.#waiting.subarray(count)
    return taken
  }
}

function headEnd(bytes) {
  const at = bytes.indexOf(HEAD_END)
  if (at < 0 && bytes.length > HEAD_BYTES_MAX) throw new Error("a head without end")
  return at < 0 ? -1 : at + HEAD_END.length
}

function parseHead(raw) {
  const [first, ...lines] = raw.toString("latin1").trimEnd().split("\r\n")
  const headers = {}
  for (const line of lines) {
    const colon = line.indexOf(":")
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim()
  }
  return { first, headers }
}
