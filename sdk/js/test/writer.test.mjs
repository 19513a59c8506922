import assert from "node:assert/strict"
import { test } from "node:test"
import { Refused, writer } from "../dist/fourfold.js"
import { records, serve, wayTo, within } from "./server.mjs"

const numbers = (count) => [...Array(count).keys()]

test("appends are in the stream in order, and resolve with offsets behind them", async (t) => {
  const url = await (await serve(t)).create("a")
  const appends = writer(url)
  const offsets = await within(10_000, Promise.all(numbers(50).map((n) => appends.append({ n }))))
  assert.deepEqual(await records(url), numbers(50).map((n) => ({ n })))
  assert.deepEqual(offsets, [...offsets].sort())
  const last = offsets.at(-1)
  assert.equal((await fetch(url, { method: "HEAD" })).headers.get("stream-next-offset"), last)
  assert.equal(appends.pending, 0)
})

test("what waits travels in one message", async (t) => {
  const server = await serve(t)
  const url = await server.create("a")
  const way = await wayTo(t, server.url)
  const appends = writer(way.url(url), { contentType: "application/json" })
  await within(10_000, Promise.all(numbers(2_500).map((n) => appends.append(n))))
  assert.deepEqual(await records(url), numbers(2_500))
  assert.equal(way.requests.length, 3)
})

test("a record is appended as it was when it was given", async (t) => {
  const url = await (await serve(t)).create("a")
  const record = { n: 1 }
  const done = writer(url).append(record)
  record.n = 2
  await within(10_000, done)
  assert.deepEqual(await records(url), [{ n: 1 }])
})

test("every JSON value is one record, also an array", async (t) => {
  const url = await (await serve(t)).create("a")
  const appends = writer(url)
  const values = [[1, 2], [], "text", null, 7, { a: [1] }, ["x"]]
  await within(10_000, Promise.all(values.map((value) => appends.append(value))))
  assert.deepEqual(await records(url), values)
  await assert.rejects(appends.append(undefined), TypeError)
  await assert.rejects(appends.append(1n), TypeError)
  await assert.rejects(appends.append(new Uint8Array(3)), TypeError)
})

test("text and binary streams take strings and bytes, one record each", async (t) => {
  const server = await serve(t)
  for (const [name, type] of [["t", "text/plain"], ["b", "application/octet-stream"]]) {
    const url = await server.create(name, type)
    const appends = writer(url)
    const bytes = new TextEncoder().encode("drei")
    const offsets = await within(10_000, Promise.all([appends.append("eins"), appends.append("zwei ü"), appends.append(bytes)]))
    assert.equal(new Set(offsets).size, 3)
    assert.equal(await (await fetch(url)).text(), "einszwei üdrei")
    await assert.rejects(appends.append({ n: 1 }), TypeError)
  }
})

test("an answer that never came is asked for again, and the record is there once", async (t) => {
  const server = await serve(t)
  const url = await server.create("a")
  const way = await wayTo(t, server.url, (head, n) => (n % 3 === 0 ? "deaf" : n % 3 === 1 ? "cut" : undefined))
  const appends = writer(way.url(url), { contentType: "application/json" })
  for (const n of numbers(6)) await within(20_000, appends.append(n))
  assert.deepEqual(await records(url), numbers(6))
})

test("the server's restarts lose and double nothing", async (t) => {
  const server = await serve(t)
  const url = await server.create("a")
  const appends = writer(url)
  const done = []
  for (const n of numbers(60)) {
    done.push(appends.append(n))
    if (n % 20 !== 10) await Promise.race([done.at(-1), new Promise((over) => setTimeout(over, 5))])
    else await server.kill().then(server.start)
  }
  await within(30_000, Promise.all(done))
  assert.deepEqual(await records(url), numbers(60))
})

test("too much to do is waited out, as long as it asks", async (t) => {
  const server = await serve(t)
  const url = await server.create("a")
  const busy = "HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n"
  const way = await wayTo(t, server.url, (head, n) => (n === 0 ? busy : undefined))
  const before = performance.now()
  await within(20_000, writer(way.url(url), { contentType: "application/json" }).append(1))
  assert.ok(performance.now() - before >= 990)
  assert.deepEqual(await records(url), [1])
})

test("a page of somebody in between is not an answer", async (t) => {
  const server = await serve(t)
  const url = await server.create("a")
  const page = "<p>Log in to the Wi-Fi</p>"
  const login = (status) => `HTTP/1.1 ${status}\r\ncontent-type: text/html\r\ncontent-length: ${page.length}\r\n\r\n${page}`
  const way = await wayTo(t, server.url, (head, n) => [login("200 OK"), login("403 Forbidden"), login("404 Not Found")][n])
  await within(30_000, writer(way.url(url)).append(1))
  assert.deepEqual(await records(url), [1])
})

test("a record that is refused is refused alone, and those around it go on in order", async (t) => {
  const server = await serve(t, "--body-max", "20KiB")
  const url = await server.create("a")
  const appends = writer(url)
  const long = "x".repeat(30_000)
  const given = [1, 2, long, 3, long, 4]
  const results = await within(20_000, Promise.allSettled(given.map((record) => appends.append(record))))
  assert.deepEqual(results.map(({ status }) => status === "fulfilled"), given.map((record) => record !== long))
  assert.equal(results[2].reason.problem.code, "body-too-large")
  assert.deepEqual(await records(url), [1, 2, 3, 4])
})

test("a missing stream refuses all that waits", async (t) => {
  const server = await serve(t)
  const appends = writer(`${server.url}/v1/stream/none`)
  const results = await within(10_000, Promise.allSettled([appends.append(1), appends.append(2)]))
  for (const { reason } of results) {
    assert.ok(reason instanceof Refused)
    assert.equal(reason.problem.status, 404)
  }
  await server.create("none")
  await within(10_000, appends.append(3))
  assert.deepEqual(await records(`${server.url}/v1/stream/none`), [3])
})

test("closing stands behind what was appended, and again is fine; appending then is refused", async (t) => {
  const url = await (await serve(t)).create("a")
  const appends = writer(url)
  const [offset, last] = await within(10_000, Promise.all([appends.append(1), appends.close()]))
  assert.equal(offset, last)
  assert.equal(await within(10_000, writer(url).close()), last)
  const late = await within(10_000, appends.append(2).catch((error) => error))
  assert.equal(late.problem.code, "stream-closed")
  assert.deepEqual(await records(url), [1])
})

test("an append whose answer was lost before another closed the stream is known to be there", async (t) => {
  const server = await serve(t)
  const url = await server.create("a")
  const other = await server.create("b")
  const closeIt = (at) => fetch(at, { method: "POST", headers: { "stream-closed": "true" } })
  // Taken, the answer cut, then closed by somebody else before the next try.
  const way = await wayTo(t, server.url)
  let closing
  way.verdict = (head, n) => {
    if (n === 1) return "deaf"
    if (n > 1 && !closing) return (closing = closeIt(url)), "cut"
  }
  const appends = writer(way.url(url), { contentType: "application/json" })
  await within(10_000, appends.append("before"))
  await within(20_000, appends.append("taken"))
  assert.deepEqual(await records(url), ["before", "taken"])
  // Not taken: the request itself was lost.
  const lost = await wayTo(t, server.url)
  lost.verdict = (head, n) => (n === 1 ? "cut" : undefined)
  const unlucky = writer(lost.url(other), { contentType: "application/json" })
  await within(10_000, unlucky.append("before"))
  const refused = unlucky.append("lost").catch((error) => error)
  await closeIt(other)
  assert.equal((await within(20_000, refused)).problem?.code, "stream-closed")
  assert.deepEqual(await records(other), ["before"])
})

test("a producer that another has taken over from is told", async (t) => {
  const url = await (await serve(t)).create("a")
  const old = writer(url, { producer: { id: "p", epoch: 0 } })
  await within(10_000, old.append(1))
  await within(10_000, writer(url, { producer: { id: "p", epoch: 1 } }).append(2))
  const refused = await within(10_000, old.append(3).catch((error) => error))
  assert.equal(refused.problem.code, "stale-producer-epoch")
  // Nor does an epoch that was used before swallow what is new.
  await assert.rejects(within(10_000, writer(url, { producer: { id: "p", epoch: 1 } }).append(4)), /used before/)
  assert.deepEqual(await records(url), [1, 2])
})

test("a signal ends what waits", async (t) => {
  const server = await serve(t)
  const url = await server.create("a")
  await server.kill()
  const abort = new AbortController()
  const appends = writer(url, { signal: abort.signal })
  const waiting = appends.append(1)
  setTimeout(() => abort.abort(), 100)
  await assert.rejects(within(5_000, waiting), { name: "AbortError" })
  await assert.rejects(within(5_000, appends.append(2)), { name: "AbortError" })
  assert.equal(appends.pending, 0)
})

test("a token that is refused is asked for anew", async (t) => {
  const server = await serve(t)
  const url = await server.create("a")
  const problem = JSON.stringify({ status: 401, code: "invalid-token", title: "t" })
  const type = "content-type: application/problem+json\r\naccess-control-allow-origin: *"
  const no = `HTTP/1.1 401 No\r\n${type}\r\ncontent-length: ${problem.length}\r\n\r\n${problem}`
  const way = await wayTo(t, server.url, (head) => (/authorization: bearer new/i.test(head) ? undefined : no))
  const tokens = ["old", "new"]
  const appends = writer(way.url(url), { token: () => tokens.shift() ?? "worn out" })
  await within(10_000, appends.append(1))
  await within(10_000, appends.append(2))
  const refused = writer(way.url(url), { token: () => "never" }).append(3)
  assert.equal((await within(10_000, refused.catch((error) => error))).problem?.code, "invalid-token")
  assert.deepEqual(await records(url), [1, 2])
})

test("JSON of another name is bytes", async (t) => {
  const url = await (await serve(t)).create("a", "application/x-ndjson")
  await within(10_000, writer(url).append('{"n":1}\n'))
  assert.equal(await (await fetch(url)).text(), '{"n":1}\n')
})
