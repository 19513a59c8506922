/** What old browsers and locked-down networks leave: each interface missing, one by one and all together. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { request, type IncomingMessage } from "node:http";
import { after, before, test } from "node:test";
import { promisify } from "node:util";

import type { Transport } from "../src/index.js";
import { Server } from "./server.js";
import { upTo, Watched } from "./watched.js";

let server: Server;
before(async () => {
  server = await Server.start();
});
after(() => server.end());

const world = globalThis as Record<string, unknown>;

/** As much of XMLHttpRequest as a client needs, over Node's HTTP. */
class Xhr {
  status = 0;
  responseText = "";
  onloadend?: () => void;
  onprogress?: () => void;
  private method = "";
  private url = "";
  private readonly sent: Record<string, string> = {};
  private headers: Record<string, string | string[] | undefined> = {};
  private asked?: ReturnType<typeof request>;

  open(method: string, url: string): void {
    this.method = method;
    this.url = url;
  }

  setRequestHeader(name: string, value: string): void {
    this.sent[name] = value;
  }

  getResponseHeader(name: string): string | null {
    return (this.headers[name] as string) ?? null;
  }

  send(body?: string): void {
    const failed = () => {
      this.status = 0;
      this.onloadend?.();
    };
    this.asked = request(this.url, { method: this.method, headers: this.sent }, (answer) => {
      this.status = answer.statusCode!;
      this.headers = answer.headers;
      answer.setEncoding("utf8");
      answer.on("data", (text) => {
        this.responseText += text;
        this.onprogress?.();
      });
      answer.on("end", () => this.onloadend?.());
      answer.on("error", failed);
    });
    this.asked.on("error", failed);
    this.asked.end(body);
  }

  abort(): void {
    this.asked?.destroy();
  }
}

/** As much of EventSource as a client needs, over Node's HTTP. */
class Source {
  onerror?: () => void;
  private readonly listeners = new Map<string, (event: { data: string }) => void>();
  private asked?: ReturnType<typeof request>;

  constructor(url: string) {
    this.read(url).catch(() => this.onerror?.());
  }

  addEventListener(name: string, listener: (event: { data: string }) => void): void {
    this.listeners.set(name, listener);
  }

  close(): void {
    this.asked?.destroy();
  }

  private async read(url: string): Promise<void> {
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      this.asked = request(url, { headers: { Accept: "text/event-stream" } }, resolve);
      this.asked.on("error", reject);
      this.asked.end();
    });
    if (answer.statusCode !== 200) throw new Error("refused");
    let text = "";
    answer.setEncoding("utf8");
    for await (const part of answer) {
      text += part;
      for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
        const lines = text.slice(0, end).split("\n");
        const field = (name: string) => lines.filter((line) => line.startsWith(name + ":")).map((line) => line.slice(name.length + 1).replace(/^ /, "")).join("\n");
        const data = field("data");
        if (data) this.listeners.get(field("event"))?.({ data });
      }
    }
    throw new Error("ended");
  }
}

async function without(names: string[], present: Record<string, unknown>, run: () => Promise<void>): Promise<void> {
  const kept = new Map<string, PropertyDescriptor | undefined>();
  for (const name of [...names, ...Object.keys(present)]) kept.set(name, Object.getOwnPropertyDescriptor(world, name));
  for (const name of names) Object.defineProperty(world, name, { value: undefined, configurable: true, writable: true });
  for (const [name, value] of Object.entries(present)) Object.defineProperty(world, name, { value, configurable: true, writable: true });
  try {
    await run();
  } finally {
    for (const [name, descriptor] of kept) {
      if (descriptor) Object.defineProperty(world, name, descriptor);
      else delete world[name];
    }
  }
}

/** A fetch from before answers could be read piece by piece; with `pieces`, from before they could be aborted. */
const oldFetch =
  (pieces: boolean) =>
  (url: string, { method, headers, body }: { method: string; headers: Record<string, string>; body?: string }): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const asked = request(url, { method, headers }, (answer) => {
        const parts = answer[Symbol.asyncIterator]();
        const read = () => parts.next();
        const text = async () => {
          const all = [];
          for (let part; !(part = await read()).done; ) all.push(part.value);
          return Buffer.concat(all).toString();
        };
        const cancel = async () => void asked.destroy();
        const get = (name: string) => answer.headers[name] ?? null;
        resolve({ status: answer.statusCode, headers: { get }, text, body: pieces ? { getReader: () => ({ read, cancel }) } : undefined });
      });
      asked.on("error", reject);
      asked.end(body);
    });

const EACH: [string[], Record<string, unknown>, Transport][] = [
  [["WebSocket"], {}, "sse"],
  [["EventSource"], {}, "websocket"],
  [["fetch"], { XMLHttpRequest: Xhr }, "websocket"],
  [["ReadableStream"], { fetch: oldFetch(false) }, "websocket"],
  [["AbortController"], { fetch: oldFetch(true) }, "websocket"],
  [["BroadcastChannel"], {}, "websocket"],
  [["navigator"], {}, "websocket"],
  [["localStorage"], {}, "websocket"],
  [["crypto"], {}, "websocket"],
  [["TextDecoder"], {}, "websocket"],
  [["WebSocket", "ReadableStream"], { fetch: oldFetch(false) }, "long-poll"],
  [["WebSocket", "ReadableStream"], { fetch: oldFetch(false), EventSource: Source }, "sse"],
  [["WebSocket", "AbortController"], { fetch: oldFetch(true) }, "sse"],
  [["WebSocket", "TextDecoder"], {}, "long-poll"],
  [["WebSocket", "fetch"], { XMLHttpRequest: Xhr, EventSource: Source }, "sse"],
  [
    ["WebSocket", "EventSource", "fetch", "ReadableStream", "BroadcastChannel", "AbortController", "TextDecoder", "crypto", "navigator", "localStorage"],
    { XMLHttpRequest: Xhr },
    "long-poll",
  ],
];

for (const [names, present, transport] of EACH) {
  const instead = Object.keys(present).length ? `, with ${Object.keys(present).join(" and ")}` : "";
  test(`without ${names.join(", ")}${instead}: ${transport}`, async () => {
    const name = `poor/${EACH.findIndex((each) => each[0] === names)}`;
    const url = await server.create(name);
    await server.append(name, upTo(3));
    await without(names, present, async () => {
      const watched = new Watched(url, { share: "tabs" });
      await watched.live(transport);
      await watched.all(3);
      await server.append(name, [3, "ü"]);
      await watched.all(5);
      assert.deepEqual(watched.got, [0, 1, 2, 3, "ü"]);
      watched.following.stop();
      // Both polls without fetch, too.
      const polling = new Watched(url, { transports: ["short-poll"] });
      await polling.all(5);
      polling.following.stop();
    });
  });
}

test("a transport that does not exist here is refused if there is no other", async () => {
  await without(["WebSocket"], {}, async () => {
    const watched = new Watched(server.url("poor/0"), { transports: ["websocket"] });
    await watched.until((state) => state.name === "refused" && state.problem.code === "unsupported");
  });
});

test("a process that stops following ends by itself, and has no rejection unhandled", async () => {
  const name = "poor/process";
  const url = await server.create(name);
  await server.append(name, [1]);
  const script = `build/test/process.mjs`;
  writeFileSync(
    script,
    `import { follow } from "../../dist/fourfold.js";
     process.on("unhandledRejection", (error) => { console.log("unhandled", error); process.exitCode = 1; });
     for (const transport of [["sse"], ["long-poll"], ["short-poll"], undefined])
       for await (const record of follow(${JSON.stringify(url)}, { transports: transport })) { console.log(record); break; }
     const dead = follow("http://127.0.0.1:1/v1/stream/x", { token: () => Promise.reject(new Error("no token")) });
     setTimeout(() => dead.stop(), 500);
     for await (const _ of dead);
     const nobody = follow("http://127.0.0.1:1/v1/stream/x");
     setTimeout(() => nobody.stop(), 500);
     for await (const _ of nobody);
     console.log("done");`,
  );
  const { stdout } = await promisify(execFile)(process.execPath, [script], { timeout: 15_000 });
  assert.equal(stdout, "1\n1\n1\n1\ndone\n");
});
