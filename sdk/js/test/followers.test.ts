/** Several followers of a stream, slow ones, and those that come back. */

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";

import { follow, GapError, Refused, type Transport } from "../src/index.js";
import { Proxy } from "./proxy.js";
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
  proxy.clear();
  proxy.seen.length = 0;
  name = `followers/${count++}`;
  await server.create(name);
});

const TRANSPORTS: Transport[] = ["websocket", "sse", "long-poll", "short-poll"];

test("followers of one stream share one connection, each from where it begins", async () => {
  await server.append(name, upTo(10));
  const url = proxy.url(name);
  const first = new Watched(url, { share: "page" });
  await first.live("websocket");
  const again = new Watched(url, { share: "page" });
  const latest = new Watched(url, { share: "page", offset: "now" });
  await Promise.all([again.live("websocket"), latest.live("websocket")]);
  await server.append(name, [10, 11]);
  await Promise.all([first.all(12), again.all(12), latest.all(2)]);
  assert.deepEqual(first.got, upTo(12));
  assert.deepEqual(again.got, upTo(12));
  assert.deepEqual(latest.got, [10, 11]);
  assert.equal(proxy.seen.filter(({ kind }) => kind === "websocket").length, 1);
  first.following.stop();
  await server.append(name, [12]);
  await again.all(13);
  again.following.stop();
  latest.following.stop();
  const after = new Watched(url, { share: "page" });
  await after.all(13);
  after.following.stop();
});

test("a late follower of a stream that never rests gets every record", async () => {
  let next = 0;
  let over = false;
  const writer = (async () => {
    while (!over) await server.append(name, [next++, next++, next++]);
  })();
  const first = new Watched(server.url(name), { share: "page" });
  await first.all(300);
  const late = new Watched(server.url(name), { share: "page" });
  await late.all(1000);
  over = true;
  await writer;
  await Promise.all([first.all(next), late.all(next)]);
  assert.deepEqual(late.got, upTo(next));
  assert.deepEqual(first.got, upTo(next));
  first.following.stop();
  late.following.stop();
});

for (const transport of TRANSPORTS) {
  test(`${transport}: a slow consumer stops the reading, and gets all`, async () => {
    const text = "x".repeat(10_000);
    for (let n = 0; n < 1000; n += 100) await server.append(name, upTo(100).map((k) => [n + k, text]));
    await server.close(name);
    const got: unknown[] = [];
    const fast: unknown[] = [];
    const slow = follow(server.url(name), { transports: [transport], share: "page" });
    const iterator = slow[Symbol.asyncIterator]();
    await iterator.next();
    const beside = (async () => {
      for await (const record of follow(server.url(name), { transports: [transport], share: "page" })) fast.push((record as unknown[])[0]);
    })();
    await beside;
    assert.deepEqual(fast, upTo(1000));
    for (;;) {
      const { value, done } = await iterator.next();
      if (done) break;
      got.push((value as unknown[])[0]);
      if (got.length % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assert.deepEqual(got, upTo(1000).slice(1));
  });

  test(`${transport}: what retention has dropped is told`, async () => {
    const trimmed = `${name}/trimmed`;
    await server.create(trimmed, "application/json", { "Stream-Retention-Records": "3" });
    const first = await server.append(trimmed, [0]);
    for (let n = 1; n < 10; n++) await server.append(trimmed, [n]);
    const watched = new Watched(server.url(trimmed), { transports: [transport, "short-poll"], offset: first });
    await watched.all(3);
    assert.equal(watched.gaps.length, 1);
    assert.equal(watched.gaps[0]!.from, first);
    assert.deepEqual(watched.got, [7, 8, 9]);
    watched.following.stop();
    const strict = follow(server.url(trimmed), { transports: [transport, "short-poll"], offset: first, share: false });
    await assert.rejects(async () => {
      for await (const _ of strict);
    }, GapError);
  });
}

test("another life of the stream is a gap", async () => {
  await server.append(name, [1, 2]);
  const watched = new Watched(server.url(name));
  await watched.all(2);
  const offset = watched.following.offset;
  watched.following.stop();
  await server.delete(name);
  await server.create(name);
  await server.append(name, [3]);
  const again = new Watched(server.url(name), { offset });
  await again.all(1);
  assert.deepEqual(again.got, [3]);
  assert.equal(again.gaps.length, 1);
  again.following.stop();
});

test("a stream that is deleted is refused", async () => {
  for (const transport of TRANSPORTS) {
    const url = await server.create(`${name}/${transport}`);
    const watched = new Watched(url, { transports: [transport] });
    await watched.live(transport);
    await server.delete(`${name}/${transport}`);
    await watched.until((state) => state.name === "refused" && state.problem.status === 404);
  }
});

test("a page that is loaded again goes on behind the last record that was done with", async () => {
  const start = await server.append(name, ["before"]);
  await server.append(name, upTo(10));
  await server.append(name, [10, 11]);
  for (const transport of TRANSPORTS) {
    let kept: string | null = start;
    const remember = { load: () => kept, save: (offset: string) => void (kept = offset) };
    const got: unknown[] = [];
    for (const stopAt of [3, 4, 10, 12]) {
      for await (const record of follow(server.url(name), { remember, transports: [transport], share: false })) {
        // In the middle of a record the page goes: it comes again.
        if (got.length === stopAt) break;
        got.push(record);
        if (got.length === 12) break;
      }
    }
    assert.deepEqual(got, upTo(12));
  }
});

test("each record comes with the offset behind it, from which another follower goes on", async () => {
  const start = await server.append(name, ["before"]);
  await server.append(name, upTo(5));
  const offsets: string[] = [];
  const following = follow(server.url(name), {
    offset: start,
    share: false,
    onRecord(_record, { offset }) {
      offsets.push(offset);
      if (offsets.length === 3) following.stop();
    },
  });
  while (following.state.name !== "closed") await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(offsets.length, 3);
  assert.equal(following.offset, offsets[2]);
  for (const [n, offset] of offsets.entries()) {
    const again = new Watched(server.url(name), { offset });
    await again.all(4 - n);
    assert.deepEqual(again.got, upTo(5).slice(n + 1));
    again.following.stop();
  }
});

test("batches come together, with the offset behind them", async () => {
  await server.append(name, upTo(10));
  await server.close(name);
  const all: unknown[] = [];
  const following = follow(server.url(name), { share: false });
  for await (const { records, offset } of following.batches()) {
    all.push(...records);
    assert.match(offset, /^[0-9a-f]{12}_\d{16}$/);
  }
  assert.deepEqual(all, upTo(10));
  assert.equal(following.state.name, "closed");
});

test("a listener that adds listeners: each record still comes once", async () => {
  await server.append(name, upTo(4));
  const got: unknown[] = [];
  const later: unknown[] = [];
  const following = follow(server.url(name), { share: false });
  await new Promise<void>((resolve) => {
    following.on("record", (record) => {
      got.push(record);
      if (record === 1) following.on("record", (record) => later.push(record));
      if (got.length === 4) resolve();
    });
  });
  following.stop();
  assert.deepEqual(got, upTo(4));
  assert.deepEqual(later, [2, 3]);
});

test("a follower that is full when its stream ends is told so, too", async () => {
  const text = "x".repeat(10_000);
  for (let n = 0; n < 300; n += 100) await server.append(name, upTo(100).map((k) => [n + k, text]));
  const slow = follow(server.url(name), { share: "page" })[Symbol.asyncIterator]();
  await slow.next();
  const fast = new Watched(server.url(name), { share: "page" });
  await fast.all(300);
  // At the end of what the slow one has taken, or beyond.
  await server.close(name);
  await fast.until((state) => state.name === "closed");
  let count = 1;
  while (!(await slow.next()).done) count++;
  assert.equal(count, 300);
});

test("who stops when told anything, hears nothing more", async () => {
  await server.append(name, upTo(3));
  const names = ["connecting", "live", "waiting", "catching up"];
  for (const stopAt of names) {
    proxy.mode = stopAt === "waiting" ? () => ({ answer: "" }) : () => "pass";
    const seen: string[] = [];
    const following = follow(proxy.url(name), { share: "page" });
    following.on("record", () => {});
    await new Promise<void>((resolve) => {
      following.on("state", (state) => {
        seen.push(state.name);
        if (state.name === stopAt) following.stop();
        if (state.name === "closed") resolve();
        if (state.name === "live" && stopAt === "catching up") proxy.cut();
      });
    });
    assert.deepEqual(seen.slice(-2), [stopAt, "closed"]);
  }
  const following = follow(server.url(name), { share: "page" });
  const got: unknown[] = [];
  await new Promise<void>((resolve) => {
    following.on("record", (record) => {
      got.push(record);
      if (got.length === 2) {
        following.stop();
        resolve();
      }
    });
  });
  assert.deepEqual(got, [0, 1]);
});

test("a signal ends it, before and after it begins", async () => {
  for (const early of [true, false]) {
    const controller = new AbortController();
    if (early) controller.abort();
    else setTimeout(() => controller.abort(), 50);
    for await (const _ of follow(server.url(name), { signal: controller.signal, share: false }));
  }
});

test("a token that is refused is asked for again, once; then the refusal is told", async () => {
  const refused = (code: string) => {
    const body = JSON.stringify({ type: "about:blank", title: "no", status: 401, code });
    return { answer: `HTTP/1.1 401 Unauthorized\r\nContent-Type: application/problem+json\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}` };
  };
  let good = "two";
  proxy.mode = (_kind, _path, head) => (head.includes(`Bearer ${good}`) || head.includes(`fourfold.token.${good}`) ? "pass" : refused("invalid-token"));
  await server.append(name, [1]);
  const tokens = ["one", "two", "three", "four", "five"];
  const watched = new Watched(proxy.url(name), { transports: ["sse"], token: () => tokens.shift()! });
  await watched.live("sse");
  assert.deepEqual(tokens, ["three", "four", "five"]);
  good = "four";
  proxy.cut();
  await watched.until((state) => state.name === "refused");
  assert.deepEqual(tokens, ["four", "five"]);
  good = "websocket";
  const socket = new Watched(proxy.url(name), { token: () => "websocket" });
  await socket.live("websocket");
  socket.following.stop();
});

test("refusals that cannot get better end it, with the problem", async () => {
  const following = follow(server.url(name), { offset: "nonsense", share: false });
  await assert.rejects(
    async () => {
      for await (const _ of following);
    },
    (error) => error instanceof Refused && error.problem.code === "invalid-offset",
  );
  assert.equal(following.state.name, "refused");
});
