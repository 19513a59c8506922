// node --test bench/pages.test.mjs
import assert from "node:assert/strict"
import { test } from "node:test"
import { performance } from "./pages/performance.mjs"
import { transports } from "./pages/transports.mjs"
import { bars, lines } from "./plot.mjs"
import { median } from "./results.mjs"

const NOT_A_FIGURE = /NaN|undefined|Infinity|null/

const machine = { cpus: 2, cpu: "C", kernel: "6", memoryGib: 24, congestion: "bbr", versions: { fourfold: "abc", node: "v20" } }
const results = (runs, failures = []) => ({
  command: "bench/peers x",
  profile: "full",
  startedAt: "2026-11-22T18:00:00Z",
  machine,
  about: { title: "T", what: "W." },
  runs,
  failures,
})
const figures = {
  cpuUsPerDelivery: 4,
  lost: 0,
  doubled: 0,
  latencyMs: { p50: 1, p75: 2, p90: 3, p95: 4, p99: 5, p999: 6, p9999: undefined },
  load: "fourfold bench URL",
}

test("a page of which most was not measured holds only figures", () => {
  const some = {
    fan_out: results(
      [
        { round: 0, subject: "floor", transport: "websocket", ...figures },
        { round: 0, subject: "fourfold", transport: "websocket", ...figures, cpuUsPerDelivery: 5 },
      ],
      [{ round: 0, subject: "nchan", transport: "sse", error: "did not start" }],
    ),
    stalled: results([{ round: 0, subject: "fourfold", transport: "sse", rate: 0, stalled: 0, appendedPerSecond: 9, ...figures }]),
    append: results([]),
    cold: results([]),
    catch_up: results([]),
    idle: results([]),
    poll: results([]),
    wake: results([]),
    growth: results([]),
    burst: results([]),
  }
  const shown = []
  const page = performance(
    (name, svg) => {
      shown.push(svg)
      return name
    },
    (name) => some[name],
  )
  assert.doesNotMatch(page, NOT_A_FIGURE)
  assert.match(page, /\| WebSocket, CPU per delivery \| at most 1.15 × the floor \| 1.25 × \| \*\*missed\*\* \|/)
  assert.match(page, /\| SSE, CPU per delivery \| at most 1.15 × the floor \| – \| not measured \|/)
  assert.match(page, /Failed: nchan SSE: did not start/)
  for (const svg of shown) assert.doesNotMatch(svg, NOT_A_FIGURE)
})

test("a run beside something else says so", () => {
  const of = (others) =>
    performance(String, (name) =>
      name === "fan_out" ? results([{ round: 0, subject: "floor", transport: "websocket", ...figures, others }]) : undefined,
    )
  assert.match(of(0.4), /Something else took 40 % of the machine/)
  assert.doesNotMatch(of(0.1), /Something else/)
})

test("without results there is no page", () => {
  assert.equal(
    performance(String, () => undefined),
    undefined,
  )
  assert.equal(
    transports(String, () => undefined),
    undefined,
  )
})

test("the page of the transports can be written from one of them", () => {
  const page = transports(
    (name, svg) => {
      assert.doesNotMatch(svg, NOT_A_FIGURE)
      return name
    },
    (name) => (name === "transports" ? results([{ round: 0, subject: "fourfold", transport: "sse", rate: 1, ...figures }]) : undefined),
  )
  assert.doesNotMatch(page, NOT_A_FIGURE)
})

test("every point of a plot lies within its frame", () => {
  const svg = lines({
    title: "T <&>",
    x: { label: "x", log: true },
    y: { label: "y", log: true },
    series: [
      {
        name: "a",
        points: [
          [3, 0.04],
          [900, 71_000],
          [NaN, 1],
        ],
      },
    ],
  })
  const points = /polyline[^>]*points="([^"]*)"/
    .exec(svg)[1]
    .split(" ")
    .map((pair) => pair.split(",").map(Number))
  assert.equal(points.length, 2)
  for (const [x, y] of points) assert.ok(x >= 68 && x <= 575 && y >= 44 && y <= 362, `${x} ${y}`)
  assert.match(svg, /T &lt;&amp;&gt;/)
})

test("a plot of nothing is a plot", () => {
  const axis = { label: "x", log: true }
  assert.doesNotMatch(lines({ title: "T", x: axis, y: axis, series: [] }), NOT_A_FIGURE)
  assert.doesNotMatch(bars({ title: "T", x: axis, rows: [] }), NOT_A_FIGURE)
})

test("the median leaves out what was not measured", () => {
  assert.equal(median([3, undefined, 1, NaN, 2]), 2)
  assert.equal(median([4, 1]), 2.5)
  assert.ok(Number.isNaN(median([])))
})
