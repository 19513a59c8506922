// A TCP proxy that can cut every connection through it, as a network would: in the middle of anything.
import net from "node:net"

export class Proxy {
  #server
  #sockets = new Set()
  /** The `Last-Event-ID` of each request that carried one. */
  resumedFrom = []

  static async before(url) {
    const proxy = new Proxy()
    const { hostname, port } = new URL(url)
    proxy.#server = net.createServer((client) => proxy.#join(client, net.connect(Number(port), hostname)))
    await new Promise((listening) => proxy.#server.listen(0, "127.0.0.1", listening))
    return proxy
  }

  get url() {
    return `http://127.0.0.1:${this.#server.address().port}`
  }

  cut() {
    const cut = this.#sockets.size
    for (const socket of this.#sockets) socket.resetAndDestroy()
    return cut
  }

  close() {
    this.cut()
    return new Promise((closed) => this.#server.close(closed))
  }

  #join(client, server) {
    for (const [from, to] of [[client, server], [server, client]]) {
      this.#sockets.add(from)
      from.on("error", () => {}) // a reset is what this is for
      from.on("close", () => {
        this.#sockets.delete(from)
        to.destroy()
      })
      from.pipe(to)
    }
    client.on("data", (bytes) => {
      const id = /^last-event-id: *(\S+)/im.exec(bytes.toString("latin1"))
      if (id) this.resumedFrom.push(id[1])
    })
  }
}
