// A raw client for what `fourfold bench` does not measure: HTTP/1.1 with pipelining, and a drain that reads and counts.
import { connect } from "node:net"

const ANSWER_MS_MAX = 60_000

/** A kept-alive HTTP connection. Requests may be pipelined; answers come in their order. */
export class Connection {
  #socket
  #waiting = []
  #piece = Buffer.alloc(0)
  /** A body that is not kept: its answer, and what is still to come of it. */
  #passing
  #left = 0

  constructor(socket) {
    this.#socket = socket
    socket.setNoDelay(true)
    socket.on("data", (piece) => this.#take(piece))
    const fail = (error) => {
      for (const { reject } of this.#waiting.splice(0)) reject(error ?? new Error("the connection ended"))
    }
    socket.on("timeout", () => socket.destroy(new Error("no answer in time")))
    socket.on("error", fail)
    socket.on("close", () => fail())
  }

  static async open(port) {
    return new Connection(await open(port))
  }

  /** Answers { status, head, body, bytes }. The head is text, as it came. The body, if it is not to be kept, is only counted. */
  request(method, path, { headers = {}, body = "", keep = true } = {}) {
    const lines = Object.entries({ host: "bench", ...headers })
      .map(([name, value]) => `${name}: ${value}\r\n`)
      .join("")
    const length = method === "GET" || method === "HEAD" ? "" : `content-length: ${Buffer.byteLength(body)}\r\n`
    const answer = new Promise((resolve, reject) => this.#waiting.push({ resolve, reject, keep, isHead: method === "HEAD" }))
    this.#socket.setTimeout(ANSWER_MS_MAX)
    this.#socket.write(`${method} ${path} HTTP/1.1\r\n${lines}${length}\r\n`)
    if (body.length > 0) this.#socket.write(body)
    return answer
  }

  end() {
    this.#socket.destroy()
  }

  #take(piece) {
    if (this.#passing) {
      const passed = Math.min(this.#left, piece.length)
      this.#left -= passed
      if (this.#left > 0) return
      this.#waiting.shift().resolve(this.#passing)
      this.#passing = undefined
      piece = piece.subarray(passed)
    }
    this.#piece = this.#piece.length > 0 ? Buffer.concat([this.#piece, piece]) : piece
    while (this.#waiting.length > 0) {
      const end = this.#piece.indexOf("\r\n\r\n")
      if (end < 0) return
      const head = this.#piece.toString("latin1", 0, end + 2)
      const status = Number(head.slice(9, 12))
      const empty = this.#waiting[0].isHead || status === 204 || status === 304
      const length = empty ? 0 : Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0)
      const have = this.#piece.length - end - 4
      if (have < length && !this.#waiting[0].keep) {
        this.#passing = { status, head, bytes: length }
        this.#left = length - have
        this.#piece = Buffer.alloc(0)
        return
      }
      if (have < length) return
      const body = this.#piece.subarray(end + 4, end + 4 + length)
      this.#piece = this.#piece.subarray(end + 4 + length)
      this.#waiting.shift().resolve({ status, head, body, bytes: length })
    }
    if (this.#waiting.length === 0) this.#socket.setTimeout(0)
  }
}

/** The value of a header, or undefined. */
export function header(answer, name) {
  return new RegExp(`\\r\\n${name}: *([^\\r]*)`, "i").exec(answer.head)?.[1]
}

/** One request on a connection of its own; refused answers are errors. */
export async function once(port, method, path, options) {
  const connection = await Connection.open(port)
  try {
    const answer = await connection.request(method, path, options)
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${answer.body}`)
    return answer
  } finally {
    connection.end()
  }
}

/** What a WebSocket client sends first, beside the request line. */
export const UPGRADE =
  "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"

/** A WebSocket that says one text message at a time and waits for one that holds `answer`. */
export class Talk {
  #socket
  #seen = ""
  #waiting

  static async open(port, path) {
    const talk = new Talk()
    talk.#socket = await open(port)
    talk.#socket.setNoDelay(true)
    talk.#socket.on("data", (piece) => talk.#take(piece.toString("latin1")))
    talk.#socket.on("close", () => talk.#waiting?.reject(new Error("the WebSocket ended")))
    talk.#socket.on("error", (error) => talk.#waiting?.reject(error))
    await talk.#send(`GET ${path} HTTP/1.1\r\nHost: bench\r\n${UPGRADE}\r\n`, "\r\n\r\n")
    return talk
  }

  say(text, answer) {
    const bytes = Buffer.from(text)
    if (bytes.length > 65_535) throw new Error("a message of over 64 KiB")
    const long = bytes.length > 125
    const frame = Buffer.alloc((long ? 8 : 6) + bytes.length) // Masked by zero, which leaves the bytes as they are.
    frame[0] = 0x81
    frame[1] = 0x80 | (long ? 126 : bytes.length)
    if (long) frame.writeUInt16BE(bytes.length, 2)
    bytes.copy(frame, frame.length - bytes.length)
    return this.#send(frame, answer)
  }

  end() {
    this.#waiting = undefined
    this.#socket.destroy()
  }

  #send(bytes, answer) {
    this.#seen = ""
    return new Promise((resolve, reject) => {
      this.#waiting = { answer, resolve, reject }
      this.#socket.write(bytes)
    })
  }

  // Answers are short and each is waited for, so what was seen since the last message is all there is.
  #take(text) {
    this.#seen += text
    if (!this.#waiting || !this.#seen.includes(this.#waiting.answer)) return
    const { resolve } = this.#waiting
    this.#waiting = undefined
    resolve()
  }
}

/** Reads an answer without end until its last bytes hold `last`, or the connection ends; answers the bytes. */
export async function drain(port, path, headers, last, deadlineMs) {
  const socket = await open(port)
  return new Promise((resolve, reject) => {
    let bytes = 0,
      tail = ""
    const timer = setTimeout(() => socket.destroy(new Error(`no end after ${bytes} bytes`)), deadlineMs)
    socket.on("error", reject)
    socket.on("close", () => {
      clearTimeout(timer)
      resolve(bytes)
    })
    socket.on("data", (piece) => {
      bytes += piece.length
      if (!last) return
      tail = (tail + piece.toString("latin1", Math.max(0, piece.length - 512))).slice(-1024)
      if (tail.includes(last)) socket.destroy()
    })
    socket.write(`GET ${path} HTTP/1.1\r\nHost: bench\r\n${headers}\r\n`)
  })
}

/** A reader that throws away what it gets. */
export async function ignore(port, path) {
  const socket = await open(port)
  socket.on("error", () => {})
  socket.write(`GET ${path} HTTP/1.1\r\nHost: bench\r\n\r\n`)
  socket.resume()
  return socket
}

export function open(port) {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1" })
    socket.once("error", reject)
    socket.once("connect", () => {
      socket.off("error", reject)
      resolve(socket)
    })
  })
}
