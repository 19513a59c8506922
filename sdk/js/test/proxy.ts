/**
 * A bad network on loopback: a TCP proxy that looks at the request and then does one of the things that networks do. The
 * mode may be changed at any time and holds for new connections; `cut` ends those that are open.
 */

import { connect, createServer, type Server, type Socket } from "node:net";
import { once } from "node:events";

export type Kind = "websocket" | "sse" | "long-poll" | "short-poll" | "other";

export type Mode =
  | "pass"
  /** Answers itself: a status line, headers, a body. */
  | { answer: string }
  /** Lets the request pass, and keeps back what the server says behind the head (a proxy that buffers). */
  | "swallow body"
  /** Lets nothing back. */
  | "silent"
  /** Cuts the connection after so many milliseconds. */
  | { cutAfterMs: number }
  /** Cuts the connection after so many bytes of the answer. */
  | { cutAfterBytes: number };

export class Proxy {
  /** What happens to each kind of request. */
  mode: (kind: Kind, path: string, head: string) => Mode = () => "pass";
  /** The requests seen. */
  readonly seen: { kind: Kind; path: string }[] = [];
  private readonly sockets = new Set<Socket>();
  private readonly swallowing = new Set<Socket>();
  private readonly kinds = new Map<Socket, Kind>();

  private constructor(
    private readonly server: Server,
    readonly port: number,
    private readonly upstream: number,
  ) {
    server.on("connection", (socket) => this.serve(socket));
  }

  static async start(upstream: number): Promise<Proxy> {
    const server = createServer();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new Proxy(server, (server.address() as { port: number }).port, upstream);
  }

  url(name: string): string {
    return `http://127.0.0.1:${this.port}/v1/stream/${name}`;
  }

  cut(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  /** From now on, nothing more comes back on the connections of this kind that are open now. */
  swallow(kind: Kind): void {
    for (const [client, its] of this.kinds) if (its === kind) this.swallowing.add(client);
  }

  clear(): void {
    this.mode = () => "pass";
  }

  end(): void {
    this.cut();
    this.server.close();
  }

  private serve(client: Socket): void {
    let head = "";
    this.track(client);
    const read = (data: Buffer) => {
      head += data.toString("latin1");
      if (!head.includes("\r\n\r\n")) return;
      client.off("data", read);
      const path = head.split(" ")[1]!;
      const kind = kindOf(head, path);
      this.seen.push({ kind, path });
      // One request a connection, so that each is judged.
      this.pass(client, kind, head.replace(/^connection: keep-alive$/im, "Connection: close"), this.mode(kind, path, head));
    };
    client.on("data", read);
  }

  private pass(client: Socket, kind: Kind, head: string, mode: Mode): void {
    if (typeof mode === "object" && "answer" in mode) {
      client.end(mode.answer);
      return;
    }
    const server = connect(this.upstream, "127.0.0.1");
    this.track(server);
    this.kinds.set(client, kind);
    client.on("close", () => this.kinds.delete(client));
    server.write(head, "latin1");
    client.pipe(server);
    let bytes = 0;
    let headPassed = false;
    server.on("data", (data: Buffer) => {
      if (mode === "silent" || this.swallowing.has(client)) return;
      if (mode === "swallow body") {
        const end = headPassed ? 0 : data.indexOf("\r\n\r\n") + 4;
        headPassed = true;
        if (end > 0) client.write(data.subarray(0, end));
        return;
      }
      if (typeof mode === "object" && "cutAfterBytes" in mode) {
        const room = mode.cutAfterBytes - bytes;
        bytes += data.length;
        client.write(data.subarray(0, Math.max(0, room)));
        if (bytes >= mode.cutAfterBytes) client.end();
        return;
      }
      client.write(data);
    });
    if (typeof mode === "object" && "cutAfterMs" in mode) {
      const timer = setTimeout(() => client.destroy(), mode.cutAfterMs);
      client.on("close", () => clearTimeout(timer));
    }
    server.on("close", () => client.destroySoon());
    client.on("close", () => server.destroy());
  }

  private track(socket: Socket): void {
    this.sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => this.sockets.delete(socket));
  }
}

function kindOf(head: string, path: string): Kind {
  if (/^upgrade: websocket/im.test(head)) return "websocket";
  if (/live=sse/.test(path)) return "sse";
  if (/live=long-poll/.test(path)) return "long-poll";
  if (/vnd\.fourfold\.message/.test(head)) return "short-poll";
  return "other";
}
