/** It finds a way through, climbs back, and loses nothing. */

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";

import { Proxy, type Kind } from "./proxy.js";
import { Server } from "./server.js";
import { upTo, Watched } from "./watched.js";

let server: Server;
let proxy: Proxy;
let name: string;
let count = 0;
before(async () => {
  server = await Server.start();
  proxy = await Proxy.start(server.port);
});
after(async () => {
  proxy.end();
  await server.end();
});
beforeEach(async () => {
  proxy.cut();
  proxy.clear();
  proxy.seen.length = 0;
  name = `moves/${count++}`;
  await server.create(name);
});

const FORBIDDEN = { answer: "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" };
const HTML = { answer: "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>Please log in</html>" };
const BAD_GATEWAY = { answer: "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbad" };
const BUSY = { answer: "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" };

/** Appends numbers while `during` runs, and then checks that each came once and in order. */
async function exactly(watched: Watched, during: () => Promise<void>): Promise<void> {
  let next = 0;
  let over = false;
  const writer = (async () => {
    while (!over) {
      await server.append(name, [next++, next++, next++]);
      await new Promise((resolve) => setTimeout(resolve, 15));
    }
  })();
  try {
    await during();
  } finally {
    over = true;
    await writer;
  }
  await watched.all(next);
  watched.following.stop();
  assert.deepEqual(watched.got, upTo(next));
}

test("a refused upgrade: the next transport, and back as soon as it is let through", async () => {
  proxy.mode = (kind) => (kind === "websocket" ? FORBIDDEN : "pass");
  const watched = new Watched(proxy.url(name));
  await exactly(watched, async () => {
    await watched.live("sse");
    proxy.mode = () => "pass";
    await watched.live("websocket");
  });
});

test("a websocket that opens and stays silent, events that are buffered: left after four seconds", async () => {
  proxy.mode = (kind) => (kind === "websocket" || kind === "sse" ? "swallow body" : "pass");
  const watched = new Watched(proxy.url(name));
  await exactly(watched, () => watched.live("long-poll"));
});

test("a websocket whose frames are swallowed later is left", async () => {
  const watched = new Watched(proxy.url(name));
  await exactly(watched, async () => {
    await watched.live("websocket");
    proxy.swallow("websocket");
    await watched.live("sse");
  });
});

test("only plain requests pass: short poll, with the same records", async () => {
  const blocked: Kind[] = ["websocket", "sse", "long-poll"];
  proxy.mode = (kind) => (blocked.includes(kind) ? BAD_GATEWAY : "pass");
  const watched = new Watched(proxy.url(name));
  await exactly(watched, () => watched.live("short-poll"));
});

test("connections that are cut every 300 ms", async () => {
  proxy.mode = () => ({ cutAfterMs: 300 });
  const watched = new Watched(proxy.url(name));
  await exactly(watched, () => watched.all(300));
});

test("answers that are cut after any number of bytes", async () => {
  let bytes = 0;
  proxy.mode = () => ({ cutAfterBytes: 900 + ((bytes += 97) % 900) });
  const watched = new Watched(proxy.url(name));
  await exactly(watched, async () => {
    await watched.all(100);
    proxy.mode = () => "pass";
  });
});

test("a page that asks to log in, in place of every answer, is weather", async () => {
  proxy.mode = () => HTML;
  const watched = new Watched(proxy.url(name));
  await exactly(watched, async () => {
    await watched.until((state) => state.name === "waiting");
    proxy.mode = () => "pass";
    await watched.live("websocket");
  });
});

test("429: comes back no sooner than it is told", async () => {
  proxy.mode = () => BUSY;
  const watched = new Watched(proxy.url(name), { transports: ["short-poll"] });
  await watched.until((state) => state.name === "waiting" && state.why === "busy" && state.until > Date.now() + 900);
  proxy.mode = () => "pass";
  await watched.live("short-poll");
  watched.following.stop();
});

test("the server restarts", async () => {
  const watched = new Watched(server.url(name));
  let next = 0;
  for (let round = 0; round < 3; round++) {
    await server.append(name, [next++, next++]);
    await watched.all(next);
    await server.stop(round === 1 ? "SIGTERM" : "SIGKILL");
    await watched.until((state) => state.name === "waiting");
    await server.restart();
    await server.append(name, [next++]);
  }
  await watched.all(next);
  watched.following.stop();
  assert.deepEqual(watched.got, upTo(next));
});
