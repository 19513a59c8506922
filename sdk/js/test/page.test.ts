/** What a page has and Node has not: a limit of connections, weather, being put aside. */

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";

import { NEXT, type Happening, type StateName } from "../src/states.js";
import { Proxy } from "./proxy.js";
import { Server } from "./server.js";
import { Watched } from "./watched.js";

let server: Server;
let proxy: Proxy;
before(async () => {
  server = await Server.start();
  proxy = await Proxy.start(server.port);
});
after(async () => {
  proxy.end();
  await server.end();
});

const world = globalThis as Record<string, unknown>;
const added: string[] = [];

/** Gives Node what it has not, until the test ends. */
function give(name: string, value: unknown): void {
  Object.defineProperty(world, name, { value, configurable: true, writable: true });
  added.push(name);
}

afterEach(() => {
  proxy.clear();
  proxy.seen.length = 0;
  for (const name of added.splice(0)) delete world[name];
});

/** As much of Web Locks as slots need. */
class Locks {
  private readonly held = new Set<string>();

  async request(name: string, _options: object, run: (lock: object | null) => Promise<void> | undefined): Promise<void> {
    if (this.held.has(name)) return run(null);
    this.held.add(name);
    await run({});
    this.held.delete(name);
  }
}

for (const locks of [undefined, new Locks()]) {
  test(`ten streams, ${locks ? "Web Locks" : "no Web Locks"}: four are held, the others poll, and take over`, async () => {
    give("location", { href: proxy.url("") });
    if (locks) give("navigator", { locks });
    const names = Array.from({ length: 10 }, (_, n) => `slots/${locks ? "locks" : "page"}/${n}`);
    const all: Watched[] = [];
    for (const name of names) {
      await server.create(name);
      const watched = new Watched(proxy.url(name), { transports: ["sse", "long-poll", "short-poll"] });
      all.push(watched);
      await watched.until((state) => state.name === "live");
    }
    const held = () => all.filter(({ following: { state } }) => state.name === "live" && state.transport === "sse");
    assert.equal(held().length, 4);
    for (const name of names) await server.append(name, [name]);
    for (const watched of all) await watched.all(1);
    all[0]!.following.stop();
    const waiting = all.slice(4);
    await Promise.race(waiting.map((watched) => watched.live("sse")));
    assert.equal(held().length, 4);
    for (const { following } of all) following.stop();
  });
}

test("a slot is given back by who climbs to a websocket, and kept by who climbs from long poll to events", async () => {
  give("location", { href: proxy.url("") });
  proxy.mode = (kind) => (kind === "websocket" || kind === "sse" ? { answer: "HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" } : "pass");
  const all: Watched[] = [];
  for (let n = 0; n < 4; n++) {
    await server.create(`climb/${n}`);
    all.push(new Watched(proxy.url(`climb/${n}`)));
    await all[n]!.live("long-poll");
  }
  await server.create("climb/other");
  const other = new Watched(proxy.url("climb/other"), { transports: ["sse", "short-poll"] });
  await other.live("short-poll");
  proxy.mode = (kind) => (kind === "websocket" ? { answer: "HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" } : "pass");
  for (const watched of all) await watched.live("sse");
  assert.equal(other.following.state.name === "live" && other.following.state.transport, "short-poll");
  proxy.clear();
  await other.live("sse");
  for (const { following } of [...all, other]) following.stop();
});

class Page extends EventTarget {
  visibilityState = "visible";
  show(name: string, persisted = true): void {
    this.dispatchEvent(Object.assign(new Event(name), { persisted }));
  }
}

test("online: it tries at once, however long it was to wait", async () => {
  const page = new Page();
  give("self", page);
  give("addEventListener", () => {});
  await server.create("online");
  proxy.mode = () => ({ answer: "HTTP/1.1 503 Busy\r\nRetry-After: 3600\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" });
  const watched = new Watched(proxy.url("online"), { transports: ["sse"] });
  await watched.until((state) => state.name === "waiting" && state.until > Date.now() + 3_000_000);
  proxy.clear();
  page.show("online");
  await watched.live("sse");
  watched.following.stop();
});

test("a page that is put aside holds no connection, and goes on when it is shown", async () => {
  const page = new Page();
  give("self", page);
  give("addEventListener", () => {});
  await server.create("aside");
  const watched = new Watched(proxy.url("aside"));
  await watched.live("websocket");
  page.show("pagehide");
  await server.append("aside", [1, 2]);
  assert.equal(watched.got.length, 0);
  page.show("pageshow");
  await watched.all(2);
  assert.deepEqual(watched.got, [1, 2]);
  assert.equal(proxy.seen.filter(({ kind }) => kind === "websocket").length, 2);
  watched.following.stop();
});

test("the network changes under a connection: another one takes over, without loss", async () => {
  const page = new Page();
  give("self", page);
  give("addEventListener", () => {});
  await server.create("moved");
  const watched = new Watched(proxy.url("moved"));
  await watched.live("websocket");
  await server.append("moved", [1]);
  await watched.all(1);
  proxy.swallow("websocket");
  await server.append("moved", [2]);
  page.show("online");
  await watched.all(2);
  assert.deepEqual(watched.got, [1, 2]);
  watched.following.stop();
});

test("what worked is tried first the next time", async () => {
  const kept = new Map<string, string>();
  give("localStorage", { getItem: (key: string) => kept.get(key) ?? null, setItem: (key: string, value: string) => kept.set(key, value) });
  await server.create("kept");
  proxy.mode = (kind) => (kind === "websocket" ? { answer: "HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" } : "pass");
  const first = new Watched(proxy.url("kept"));
  await first.live("sse");
  first.following.stop();
  proxy.clear();
  proxy.seen.length = 0;
  const second = new Watched(proxy.url("kept"));
  await second.live("sse");
  assert.equal(proxy.seen.filter(({ kind }) => kind === "websocket").length, 0);
  await second.live("websocket");
  second.following.stop();
});

test("a stream that has ended stays closed, one that is refused stays refused", () => {
  for (const from of Object.keys(NEXT) as StateName[]) {
    for (const [event, to] of Object.entries(NEXT[from]) as [Happening, StateName][]) {
      if (from === "closed" || from === "refused") assert.equal(to, from);
      else if (event === "tail") assert.equal(to, "live");
      else if (event === "refuse") assert.equal(to, "refused");
      else if (event === "end") assert.equal(to, "closed");
    }
  }
});
