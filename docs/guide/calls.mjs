// Lets the server do slow work, leaves, comes back, and hears how it ended: node docs/guide/calls.mjs http://127.0.0.1:4437
// calls.md beside it explains the steps. The server has calls.toml; REPORT_PORT is the port in its [calls.report], if that is not 9000.
// Node 20 or newer and Python 3, no packages.
import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"

const server = process.argv[2] ?? "http://127.0.0.1:4437"
const port = process.env.REPORT_PORT ?? "9000"
const key = () => `guide-${process.pid}-${performance.now()}`
const ask = (method, url, headers = {}, body) =>
  fetch(new URL(url, server), { method, headers, body, signal: AbortSignal.timeout(30_000) })
const call = (target, order, headers = {}) =>
  ask("POST", `/v1/call/${target}`, { "Content-Type": "application/json", ...headers }, JSON.stringify(order))
const endingOf = (answer) => JSON.parse(answer.headers.get("Stream-Ending"))
const whole = (steps) => [
  ...Array.from({ length: steps }, (_, at) => ({ step: at + 1, progress: (at + 1) / steps })),
  { result: `all ${steps} done` },
]

/** Reads portions, lines of JSON, until it has `enough` records or they end. Returns the records, and the offset behind the last. */
async function portions(answer, enough = Infinity) {
  const [records, text] = [[], new TextDecoder()]
  let [rest, offset, ending] = ["", answer.headers.get("Stream-Next-Offset")]
  for await (const bytes of answer.body) {
    const lines = (rest + text.decode(bytes, { stream: true })).split("\n")
    rest = lines.pop()
    for (const line of lines.filter(Boolean)) {
      const message = JSON.parse(line)
      records.push(...(message.records ?? []))
      offset = message.streamNextOffset ?? offset
      ending = message.ending ?? ending
    }
    if (records.length >= enough) break // Leaving the loop cuts the connection.
  }
  return { records, offset, ending }
}

/** Reads a stream from an offset to its end by long polls. */
async function longPolls(stream, offset) {
  const records = []
  for (;;) {
    const answer = await ask("GET", `${stream}?live=long-poll&offset=${offset}`)
    assert.ok(answer.ok, `${answer.status}`)
    if (answer.status === 200) records.push(...(await answer.json()))
    if (answer.headers.has("Stream-Closed")) return { records, ending: endingOf(answer) }
    offset = answer.headers.get("Stream-Next-Offset")
  }
}

/** Reads an event stream until it has `enough` records or says its end. */
async function events(answer, enough = Infinity) {
  const [records, text] = [[], new TextDecoder()]
  let [rest, offset, ending] = ["", answer.headers.get("Stream-Next-Offset")]
  for await (const bytes of answer.body) {
    const blocks = (rest + text.decode(bytes, { stream: true })).split("\n\n")
    rest = blocks.pop()
    for (const block of blocks) {
      const field = (name) => new RegExp(`^${name}: ?(.*)$`, "m").exec(block)?.[1]
      offset = field("id") ?? offset
      if (field("event") === "data") records.push(...JSON.parse(field("data")))
      if (field("event") === "control") ending = JSON.parse(field("data")).ending ?? ending
    }
    if (records.length >= enough || ending) break
  }
  return { records, offset, ending }
}

// 0. The page shows what is run here.
const file = (name) => readFileSync(join(import.meta.dirname, name), "utf8")
for (const [language, name] of [["python", "calls.py"], ["php", "calls.php"], ["toml", "calls.toml"]]) {
  const shown = new RegExp(`\n\`\`\`${language}\n(?:<\\?php\n)?([^]*?)\`\`\``).exec(file("calls.md"))[1]
  assert.ok(file(name).includes(shown), `calls.md shows another ${name}`)
}

// 1. An upstream: the HTTP server of the guide.
const upstream = spawn("python3", [join(import.meta.dirname, "calls-server.py"), port], { stdio: ["ignore", "pipe", "ignore"] })
process.on("exit", () => upstream.kill())
const ready = await Promise.race([once(upstream.stdout, "data"), once(upstream, "exit")])
assert.equal(String(ready[0]), "listening\n", "calls-server.py could not listen")

// 2. A call is begun and read by the same request, as events. The connection is cut half-way.
const begun = await call("report?live=sse", { steps: 20 })
assert.equal(begun.status, 201, await (begun.ok ? "" : begun.text()))
const report = begun.headers.get("Location")
const first = await events(begun, 4)
assert.ok(first.records.length >= 4 && first.records.length < 20, "cut half-way")

// 3. The call has gone on. It is read from the offset in hand, by another transport: nothing is lost, nothing comes twice.
const rest = await longPolls(report, first.offset)
assert.deepEqual([...first.records, ...rest.records], whole(20))
assert.deepEqual([rest.ending.outcome, rest.ending.status, rest.ending.records], ["finished", 200, 21])
console.log(`report: ${first.records.length} records by SSE, ${rest.records.length} by long poll, ${rest.ending.outcome}`)

// 4. A program, by portions, and then by events from there.
const lines = await call("slow?live=long-poll", { steps: 6 }, { Accept: "application/x-ndjson" })
const half = await portions(lines, 3)
const slow = lines.headers.get("Location")
const second = await events(await ask("GET", `${slow}?live=sse&offset=${half.offset}`))
assert.deepEqual([...half.records, ...second.records], whole(6))
assert.deepEqual([second.ending.outcome, second.ending.exitCode], ["finished", 0])

// 5. Who is not sure that the request arrived sends it again with the same key: it is the same call. `Prefer: wait` waits for its end.
const same = { "Idempotency-Key": key(), Prefer: "wait" }
const [one, two] = await Promise.all([call("slow", { steps: 3 }, same), call("slow", { steps: 3 }, same)])
assert.equal(one.headers.get("Location"), two.headers.get("Location"))
assert.equal([one, two].filter((answer) => answer.headers.get("Idempotency-Replayed") === "true").length, 1)
assert.deepEqual([await one.json(), await two.json()], [whole(3), whole(3)])
assert.equal(endingOf(one).outcome, "finished")
const other = await call("slow", { steps: 4 }, same)
assert.deepEqual([other.status, (await other.json()).code], [422, "idempotency-key-reused"])
console.log("slow: the same key, one call")

// 6. A call that nobody wants any more is cancelled. What it has said stays.
const long = await call("slow?live=sse", { steps: 200 })
const cancelled = long.headers.get("Location")
const some = await events(long, 1)
assert.equal((await ask("DELETE", cancelled)).status, 202)
const { ending } = await longPolls(cancelled, some.offset)
assert.deepEqual([ending.outcome, ending.code], ["cancelled", "asked"])
const again = await ask("POST", `${cancelled}/cancel`)
assert.deepEqual([again.status, (await again.json()).code], [409, "call-ended"])
console.log(`slow: cancelled after ${ending.records} records`)

// 7. A call that fails in the middle says so, with the last words of the program.
const failed = await call("slow", { steps: "many" }, { Prefer: "wait" })
const why = (await (await ask("GET", `/v1/calls/${failed.headers.get("Call-Id")}`)).json()).ending
assert.deepEqual([why.outcome, why.code, why.exitCode], ["failed", "exit-status", 1])
assert.match(why.stderr, /TypeError/)
console.log(`slow: failed, ${why.stderr.trim().split("\n").at(-1)}`)

// 8. The same in PHP, where there is PHP.
if (["/usr/local/bin/php", "/usr/bin/php"].some(existsSync)) {
  const php = await call("slow-php", { steps: 3 }, { Prefer: "wait" })
  assert.deepEqual(await php.json(), whole(3))
  assert.equal(endingOf(php).outcome, "finished")
  console.log("slow-php: finished")
} else {
  console.log("slow-php: skipped, there is no PHP here")
}

// 9. The list tells of all of them. A call that has ended is deleted as any stream.
const { calls, names } = await (await ask("GET", "/v1/calls?limit=100")).json()
for (const stream of [report, slow, cancelled]) {
  assert.ok(calls.some((each) => new URL(each.stream, server).pathname === new URL(stream, server).pathname && each.state === "ended"))
  assert.equal((await ask("DELETE", stream)).status, 204)
}
assert.ok(names.some(({ name, kind }) => name === "report" && kind === "url"))
upstream.kill()
console.log("all as told")
