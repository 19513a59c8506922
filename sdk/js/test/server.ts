/** A real server for tests, on a free port of loopback. `FOURFOLD_BIN` names the binary. */

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { request, type IncomingMessage } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { WebSocket as Socket } from "ws";

// Node 20 has none; its experimental one loses a message that comes together with the close.
globalThis.WebSocket = Socket as never;

const binary = process.env.FOURFOLD_BIN || ["target/debug/fourfold", "../../target/debug/fourfold"].find((path) => existsSync(path)) || "fourfold";

export class Server {
  private constructor(
    private child: ChildProcess,
    private readonly data: string,
    readonly port: number,
    private readonly flags: string[],
  ) {}

  static async start(...flags: string[]): Promise<Server> {
    const data = mkdtempSync(join(tmpdir(), "fourfold-test-"));
    const [child, port] = await launch(data, 0, flags);
    return new Server(child, data, port, flags);
  }

  get origin(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  url(name: string): string {
    return `${this.origin}/v1/stream/${name}`;
  }

  async create(name: string, contentType = "application/json", headers: Record<string, string> = {}): Promise<string> {
    await this.ask("PUT", name, { "Content-Type": contentType, ...headers });
    return this.url(name);
  }

  /** JSON records together, or one of another type. Returns the offset behind. */
  async append(name: string, records: unknown[], contentType = "application/json"): Promise<string> {
    const body = contentType === "application/json" ? JSON.stringify(records) : (records[0] as string);
    const answer = await this.ask("POST", name, { "Content-Type": contentType }, body);
    return answer.headers["stream-next-offset"] as string;
  }

  async close(name: string): Promise<void> {
    await this.ask("POST", name, { "Stream-Closed": "true" });
  }

  async delete(name: string): Promise<void> {
    await this.ask("DELETE", name);
  }

  /** Not by fetch, which some tests take away. */
  private ask(method: string, name: string, headers: Record<string, string> = {}, body = ""): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const asked = request(this.url(name), { method, headers: { ...headers, "Content-Length": Buffer.byteLength(body) } }, (answer) => {
        answer.resume();
        answer.on("end", () => {
          if (answer.statusCode! < 300) resolve(answer);
          else reject(new Error(`${method} ${name}: ${answer.statusCode}`));
        });
      });
      asked.on("error", reject);
      asked.end(body);
    });
  }

  async stop(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill(signal);
    await once(this.child, "exit");
  }

  /** On the same port, with the same data. */
  async restart(): Promise<void> {
    [this.child] = await launch(this.data, this.port, this.flags);
  }

  async end(): Promise<void> {
    await this.stop();
    rmSync(this.data, { recursive: true, force: true });
  }
}

async function launch(data: string, port: number, flags: string[]): Promise<[ChildProcess, number]> {
  const child = spawn(binary, ["serve", "--listen", `127.0.0.1:${port}`, "--data-dir", data, "--durability", "os", ...flags], {
    stdio: ["ignore", "pipe", "ignore"],
    env: { ...process.env, FOURFOLD_LOG: "error" },
  });
  // A test that ends in the middle leaves no server behind.
  process.once("exit", () => child.kill("SIGKILL"));
  for await (const line of createInterface({ input: child.stdout! })) {
    const match = /listening on http:\/\/127\.0\.0\.1:(\d+)/.exec(line);
    if (match) return [child, Number(match[1])];
  }
  throw new Error("the server did not start");
}
