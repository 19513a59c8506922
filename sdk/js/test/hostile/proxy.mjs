/**
 * A proxy on loopback, in front of a real server, that mistreats what goes through it as networks do.
 *
 * It takes HTTP apart into exchanges (a request with its answer, or a WebSocket) and asks `choose(exchange)` for each
 * which fault it has, `null` for none; `strike(make)` gives a fault to all that are under way. What faults there are, and
 * how to write another one, is in `faults.mjs`. As TCP itself, it reorders nothing and repeats nothing.
 */
import net from "node:net"

import { Answer, Requests } from "./framing.mjs"

const LOG_LINES_MAX = 400 // The end of a failing run is what one looks at.

export class Proxy {
  /** The fault of an exchange that begins: `{ down?, up?, … }`, see `faults.mjs`. */
  choose = () => null
  /** Pages of the test's own at this origin, by path: `{ type, body }`. They have no faults. */
  pages = new Map()
  /** How many exchanges of each kind there were. */
  counts = {}
  /** Connections are reset as they come. */
  refusing = false
  log = []
  #server
  #target
  #connections = new Set()
  #number = 0
  #began = performance.now()

  static async before(url) {
    const proxy = new Proxy()
    proxy.aim(url)
    proxy.#server = net.createServer({ noDelay: true }, (client) => proxy.#join(client))
    await new Promise((listening) => proxy.#server.listen(0, "127.0.0.1", listening))
    return proxy
  }

  get url() {
    return `http://127.0.0.1:${this.#server.address().port}`
  }

  /** The exchanges under way. */
  get exchanges() {
    return [...this.#connections].map(({ exchange }) => exchange).filter(Boolean)
  }

  /** Connections held by clients. */
  get held() {
    return this.#connections.size
  }

  aim(url) {
    const { hostname, port } = new URL(url)
    this.#target = { host: hostname, port: Number(port), noDelay: true }
  }

  /** Gives a fault to each exchange under way, that `make(exchange)` returns one for. How many it did. */
  strike(make) {
    const struck = this.exchanges.filter((exchange) => {
      const fault = make(exchange)
      if (fault) exchange.take(fault)
      return fault
    })
    return struck.length
  }

  /** Resets every connection, idle ones too. */
  cut() {
    for (const connection of this.#connections) connection.cut("rst")
  }

  async close() {
    const closed = new Promise((closed) => this.#server.close(closed))
    this.cut()
    await closed
  }

  note(line) {
    this.log.push(`${String(Math.round(performance.now() - this.#began)).padStart(6)} ms  ${line}`)
    if (this.log.length > LOG_LINES_MAX) this.log.shift()
  }

  /** Of a connection's exchange that begins. */
  begin(exchange) {
    exchange.number = this.#number++
    this.counts[exchange.kind] = (this.counts[exchange.kind] ?? 0) + 1
    const fault = this.choose(exchange)
    this.note(`#${exchange.number} ${exchange.kind} ${exchange.request.target}${fault ? `: ${fault.name}` : ""}`)
    if (fault) exchange.take(fault)
  }

  #join(client) {
    if (this.refusing) {
      client.on("error", () => {})
      client.resetAndDestroy()
      return
    }
    const connection = new Connection(this, client, () => net.connect(this.#target))
    this.#connections.add(connection)
    client.once("close", () => this.#connections.delete(connection))
  }
}

/** One connection of a client, with its own one to the server. */
class Connection {
  exchange = null
  #proxy
  #client
  #server = null
  #connect
  #toClient
  #toServer
  #requests = new Requests()
  #closed = false

  constructor(proxy, client, connect) {
    this.#proxy = proxy
    this.#client = client
    this.#connect = connect
    this.#toClient = new Line(client, () => this.#server)
    client.on("error", () => {})
    client.on("data", (bytes) => this.#fromClient(bytes))
    client.on("close", () => this.#close())
    client.on("end", () => this.#server?.end())
  }

  toClient(bytes, delayMs) {
    this.#toClient.send(bytes, delayMs)
  }

  toServer(bytes, delayMs) {
    this.#toServer ??= new Line(this.#reach(), () => this.#client)
    this.#toServer.send(bytes, delayMs)
  }

  /** Ends the client's connection, with "fin" or "rst"; and the server's. */
  cut(how) {
    this.#toClient.end(how)
    this.#server?.destroy()
    this.exchange?.over()
  }

  #fromClient(bytes) {
    if (this.exchange?.tunnel) return this.exchange.up(bytes)
    for (const piece of this.#requests.feed(bytes)) {
      if (this.#closed) return
      if (piece.part === "head") {
        this.exchange = new Exchange(this, piece.request)
        const page = this.#proxy.pages.get(piece.request.target.split("?")[0])
        if (page) this.exchange.fault = { name: "page", answer: (exchange) => exchange.reply(200, page.type, page.body) }
        else this.#proxy.begin(this.exchange)
      }
      this.exchange?.up(piece.raw, piece.last) // None: it was answered before its body was through.
    }
  }

  #reach() {
    if (this.#server) return this.#server
    const server = this.#connect()
    this.#server = server
    server.on("data", (bytes) => this.exchange?.fromServer(bytes))
    server.on("error", (error) => this.exchange?.serverFailed(error))
    server.on("close", () => {
      this.exchange ? this.exchange.serverGone() : this.cut("fin")
    })
    return server
  }

  #close() {
    this.#closed = true
    this.#toClient.drop()
    this.#toServer?.drop()
    this.#server?.destroy()
    this.exchange?.over()
  }
}

/** A request with its answer; or a WebSocket. What faults act on. */
export class Exchange {
  fault = null
  tunnel = false
  /** Bytes of the answer that came from the server, and that went to the client. */
  received = 0
  sent = 0
  #connection
  #answer
  #over = false
  #lost = new Set()

  constructor(connection, request) {
    this.#connection = connection
    this.request = request
    this.#answer = new Answer(request.method)
    this.kind = kindOf(request)
  }

  get live() {
    return !this.#over
  }

  take(fault) {
    if (this.#over) return
    this.fault?.over?.(this)
    // What one fault has kept back is never made good by the next one: then nothing behind it may come through either.
    for (const way of this.fault?.loses ?? []) this.#lost.add(way)
    this.fault = fault
    fault.begin?.(this)
  }

  up(bytes, last = false) {
    if (this.#over) return
    if (this.fault?.answer) {
      if (last) this.fault.answer(this)
    } else if (this.fault?.up) this.fault.up(bytes, this)
    else this.toServer(bytes)
  }

  fromServer(bytes) {
    if (this.#over) return
    this.received += bytes.length
    for (const piece of this.#answer.feed(bytes)) {
      if (piece.part === "head") this.status = piece.answer.status
      if (this.fault?.down) this.fault.down(piece, this)
      else this.toClient(piece.raw)
      if (this.#over) return
      if (piece.answer?.status === 101) this.tunnel = true
      if (piece.last) this.#end()
    }
  }

  serverFailed() {
    if (this.#over || this.received > 0) return
    // As reverse proxies do when the server behind them is away.
    this.reply(502, "text/html", "<h1>Bad Gateway</h1>")
  }

  serverGone() {
    if (this.#over) return
    this.fault?.serverGone?.(this)
    if (!this.#over && !this.fault?.mute) this.cut("fin")
  }

  toClient(bytes, delayMs) {
    if (this.#over || this.#lost.has("down")) return
    this.sent += bytes.length
    this.#connection.toClient(bytes, delayMs)
  }

  toServer(bytes, delayMs) {
    if (!this.#over && !this.#lost.has("up")) this.#connection.toServer(bytes, delayMs)
  }

  /** An answer of the proxy's own, instead of the server's. */
  reply(status, type, body, headers = {}) {
    const content = Buffer.from(body)
    const close = this.kind === "websocket" || status === 502
    const all = { "Content-Type": type, "Content-Length": content.length, ...headers, ...(close && { Connection: "close" }) }
    if (status === 204) delete all["Content-Type"], delete all["Content-Length"]
    const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
    this.toClient(Buffer.concat([Buffer.from(`HTTP/1.1 ${status} Own\r\n${lines.join("")}\r\n`), content]))
    if (close) this.cut("fin")
    else this.#end()
  }

  cut(how = "rst") {
    if (!this.#over) this.#connection.cut(how)
  }

  /** The connection has ended, or the next exchange may begin on it. */
  over() {
    if (this.#over) return
    this.#over = true
    this.fault?.over?.(this)
  }

  #end() {
    this.fault?.end?.(this)
    this.over()
    if (this.#connection.exchange === this) this.#connection.exchange = null
  }
}

/** The way to one socket: in order, each piece after its delay. */
class Line {
  #to
  #from
  #queue = []
  #timer = null
  #free = 0 // when the one before is out

  constructor(to, from) {
    this.#to = to
    this.#from = from
  }

  send(bytes, delayMs = 0) {
    this.#push({ bytes }, delayMs)
  }

  end(how) {
    this.#push({ how }, 0)
  }

  drop() {
    clearTimeout(this.#timer)
    this.#queue = []
  }

  #push(step, delayMs) {
    const now = performance.now()
    this.#free = Math.max(this.#free, now + delayMs)
    this.#queue.push({ ...step, at: this.#free })
    if (this.#queue.length === 1) this.#pump()
  }

  #pump() {
    while (this.#queue.length > 0) {
      const [step] = this.#queue
      const wait = step.at - performance.now()
      if (wait > 0.5) {
        this.#timer = setTimeout(() => this.#pump(), wait)
        return
      }
      this.#queue.shift()
      if (step.how) {
        if (step.how === "rst") this.#to.resetAndDestroy()
        else {
          this.#to.end()
          // A client that does not close in return is let go of all the same.
          setTimeout(() => this.#to.destroy(), 1_000).unref()
        }
        this.#queue = []
      } else if (this.#to.writable && !this.#to.write(step.bytes)) {
        const from = this.#from()
        from?.pause()
        this.#to.once("drain", () => from?.resume())
      }
    }
  }
}

function kindOf({ method, target, headers }) {
  if (/websocket/i.test(headers.upgrade ?? "")) return "websocket"
  if (method === "POST") return "append"
  if (method !== "GET") return method === "OPTIONS" ? "preflight" : "other"
  const query = new URL(target, "http://any").searchParams
  if (query.get("live") === "sse" || /event-stream/.test(headers.accept ?? "")) return "sse"
  if (query.get("live") === "long-poll") return "long-poll"
  return "short-poll"
}
