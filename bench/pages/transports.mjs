// docs/transports.md: which transport costs what, on our own server, and what of the things that people say about them is so.
import { bars, lines } from "../plot.mjs"
import { last, median } from "../results.mjs"
import { bytes, figure, ratio, table, time, TRANSPORTS } from "../words.mjs"

/** As in performance.mjs. */
export function transports(plot, read = last) {
  const part = read("transports")
  if (!part || part.runs.length === 0) return undefined
  const { runs } = part,
    idlePart = read("idle")
  const rates = [...new Set(runs.filter((run) => run.rate > 0).map((run) => run.rate))].sort((a, b) => a - b)
  const ways = [...new Map(runs.filter((run) => run.way === undefined).map((run) => [name(run), run])).values()]
  /** The median of a figure of a transport at a rate; short polls by their interval. */
  const at = (way, rate, value) =>
    median(runs.filter((run) => run.way === undefined && name(run) === name(way) && run.rate === rate).map(value))
  const perSubscriber = (run) => run.cpuUsPerDelivery * run.rate
  const facts = { at, rates, low: rates[0], high: rates.at(-1), mid: rates[Math.floor((rates.length - 1) / 2)], runs, idlePart }
  return (
    [
      `# Which transport costs what

Fourfold writes the same records, from the same offsets, over four transports. So they can be compared on the same work, by the same server, and this page does that: 200 subscribers of one
stream, records of 128 B at the same rates, everything in memory. Every figure comes from \`${part.command}\`${idlePart ? ` and \`${idlePart.command}\`` : ""} (${part.machine.cpus} × ${part.machine.cpu}, loopback; begun ${part.startedAt.slice(0, 16).replace("T", " ")}), and this page was written by that command.
On a real network add its round trips: one for each record of a long poll, none for WebSocket and SSE. How other servers do is in [performance](performance.md).`,
      "## All in one table",
      table(
        [
          `${figure(facts.low)} and ${figure(facts.high)} records/s to 200 subscribers`,
          `CPU per delivery at ${figure(facts.low)}/s`,
          `at ${figure(facts.high)}/s`,
          `p50 at ${figure(facts.mid)}/s`,
          "p99",
          `wire bytes per delivery at ${figure(facts.low)}/s`,
          `requests per delivery at ${figure(facts.low)}/s`,
          `at ${figure(facts.high)}/s`,
          "idle: CPU per connection and hour",
          "idle: memory",
        ],
        ways.map((way) => [
          name(way),
          figure(
            at(way, facts.low, (run) => run.cpuUsPerDelivery),
            " µs",
          ),
          figure(
            at(way, facts.high, (run) => run.cpuUsPerDelivery),
            " µs",
          ),
          time(at(way, facts.mid, (run) => run.latencyMs?.p50)),
          time(at(way, facts.mid, (run) => run.latencyMs?.p99)),
          figure(
            at(way, facts.low, (run) => run.bytesPerDelivery),
            " B",
          ),
          figure(at(way, facts.low, (run) => run.requestsPerDelivery)),
          figure(at(way, facts.high, (run) => run.requestsPerDelivery)),
          time(at(way, 0, idleMsPerHour)),
          bytes(at(way, 0, (run) => run.idleBytes)),
        ]),
      ),
      plot(
        "transports-cpu",
        lines({
          title: "CPU for one subscriber against the rate of its stream",
          x: { label: "records a second", log: true, ticks: rates },
          y: { label: "server CPU per subscriber, µs a second", log: true },
          series: ways.map((way) => ({ name: name(way), points: rates.map((rate) => [rate, at(way, rate, perSubscriber)]) })),
        }),
      ),
      plot(
        "transports-latency",
        lines({
          title: `Median latency against the rate of the stream`,
          x: { label: "records a second", log: true, ticks: rates },
          y: { label: "p50, ms", log: true },
          series: ways.map((way) => ({ name: name(way), points: rates.map((rate) => [rate, at(way, rate, (run) => run.latencyMs?.p50)]) })),
        }),
      ),
      plot(
        "transports-idle",
        bars({
          title: "What waiting costs, while nothing happens",
          x: { label: "server CPU per connection and hour, ms (logarithmic)", log: true },
          rows: ways.map((way) => ({
            name: name(way),
            value: Math.max(at(way, 0, idleMsPerHour), 0.1),
            note: time(at(way, 0, idleMsPerHour)),
          })),
        }),
      ),
      "## What people say",
      ...said(facts),
      "## How to choose",
      choose(facts),
      part.failures.length > 0
        ? `Failed: ${part.failures.map((each) => `${name(each)} at ${each.rate}/s: ${each.error}`).join("; ")}.`
        : "",
    ]
      .filter(Boolean)
      .join("\n\n") + "\n"
  )
}

function name({ transport, interval }) {
  return interval
    ? `${TRANSPORTS[transport]}, every ${interval >= 1000 ? `${interval / 1000} s` : `${interval} ms`}`
    : TRANSPORTS[transport]
}

function rate(records) {
  return records === 1 ? "one record a second" : `${figure(records)} records a second`
}

function idleMsPerHour(run) {
  return ((run.cpuUs / run.connections / run.seconds) * 3600) / 1000
}

const WEBSOCKET = { transport: "websocket" }
const SSE = { transport: "sse" }
const LONG = { transport: "long-poll" }
const SECOND = { transport: "short-poll", interval: 1000 }
const TENTH = { transport: "short-poll", interval: 100 }

/** What is repeated about each transport, with what was measured about it. */
function said({ at, low, mid, high, runs, idlePart }) {
  const cpu = (way, records) => at(way, records, (run) => run.cpuUsPerDelivery)
  const us = (way, records) => figure(cpu(way, records), " µs")
  const over = (way, records) => ratio(cpu(way, records) / cpu(WEBSOCKET, records))
  const middle = (way) => time(at(way, mid, (run) => run.latencyMs?.p50))
  const tail = (way) => time(at(way, mid, (run) => run.latencyMs?.p99))
  const wire = (way) =>
    figure(
      at(way, low, (run) => run.bytesPerDelivery),
      " B",
    )
  const requests = (way, records) => at(way, records, (run) => run.requestsPerDelivery)
  const waiting = (way) => time(at(way, 0, idleMsPerHour))
  const memory = (way) => bytes(idleBytes(way, idlePart) ?? at(way, 0, (run) => run.idleBytes))
  const back = (way, value) => median(runs.filter((run) => run.way === "back" && run.transport === way.transport).map(value))
  const append = (way) => back(way, (run) => run.cpuUsPerAppend)
  const ack = (way) => time(back(way, (run) => run.ackMs?.p50))
  return [
    `**"WebSocket is heavy."** At ${rate(high)} a delivery costs ${us(WEBSOCKET, high)} by WebSocket and ${us(SSE, high)} by SSE; an idle connection takes ${memory(WEBSOCKET)}
and ${memory(SSE)} of memory. On the wire a record of 128 B becomes ${wire(WEBSOCKET)} and ${wire(SSE)}. What is heavy about WebSockets is what many libraries keep for each.`,
    `**"SSE is one-way."** So it is: what goes back is a \`POST\` beside it. On a connection that is kept open that costs ${figure(append(SSE), " µs")} of CPU per append and is acknowledged after
${ack(SSE)} at the median; on the reader's own WebSocket ${figure(append(WEBSOCKET), " µs")} and ${ack(WEBSOCKET)} (16 clients, each reading what it appends): ${ratio(append(SSE) / append(WEBSOCKET))} the CPU.`,
    `**"Long polling delays."** At ${rate(mid)} its median is ${middle(LONG)} and its p99 ${tail(LONG)}; WebSocket has ${middle(WEBSOCKET)} and ${tail(WEBSOCKET)}. Nothing waits for a timer: a record
that comes between two requests is there when the next one asks. A network adds the time of a request.`,
    `**"Long polling burdens the server."** A delivery costs ${us(LONG, low)} at ${rate(low)} and ${us(LONG, high)} at ${figure(high)}: ${over(LONG, low)} and ${over(LONG, high)} WebSocket's, since a
request is read for each answer (${figure(requests(LONG, low))} and ${figure(requests(LONG, high))} per delivery). While nothing happens a connection costs ${waiting(LONG)} of CPU an hour, a WebSocket ${waiting(WEBSOCKET)}.
\`linger\` gathers a constant flow into fewer answers, and portions keep one answer open.`,
    `**"Short polling wastes."** Where little happens, yes: at ${rate(low)}, asked every 100 ms, one record takes ${figure(requests(TENTH, low))} requests and ${us(TENTH, low)} of CPU. Where much happens it
saves: at ${rate(high)}, asked once a second, an answer brings ${figure(1 / requests(SECOND, high))} records, and a delivery costs ${us(SECOND, high)}, ${over(SECOND, high)} WebSocket's. What it costs is
time: ${middle(SECOND)} at the median. An answer that there is nothing new (304) costs ${figure(
      at(SECOND, 0, (run) => run.cpuUsPerRequest),
      " µs",
    )}.`,
  ]
}

/** Of the largest number of connections that was measured. */
function idleBytes({ transport }, part) {
  const of = (part?.runs ?? []).filter((run) => run.subject === "fourfold" && run.transport === transport)
  return of.sort((a, b) => b.connections - a.connections)[0]?.idleBytes
}

function choose({ at, low, high }) {
  const cpu = (way, records) => at(way, records, (run) => run.cpuUsPerDelivery)
  const middle = (way) => time(at(way, low, (run) => run.latencyMs?.p50))
  const cheapest = [WEBSOCKET, SSE, LONG].every((way) => cpu(SECOND, high) < cpu(way, high))
  return `- **SSE**, if the browser only reads, or writes seldom: it reconnects by itself, passes what passes HTTP, and costs ${ratio(cpu(SSE, high) / cpu(WEBSOCKET, high))} WebSocket's CPU per delivery. Over
  HTTP/1.1 a browser holds only a few connections to an origin; a page with many streams wants WebSockets.
- **WebSocket**, if the client also appends often, or wants its appends in order on one connection.
- **Long poll**, where something on the way holds answers back until they end. It costs ${ratio(cpu(LONG, low) / cpu(SSE, low))} SSE's CPU per delivery at ${rate(low)}, and ${middle(LONG)} instead of
  ${middle(SSE)} at the median.
- **Short poll**, if news may be as old as the interval, or connections must not stay open.${cheapest ? ` On a fast stream it is the cheapest of all, here at ${rate(high)}, asked every second.` : ""}
  Ask when \`Stream-Poll-After\` says, not on a fixed beat.
- Not sure: begin with SSE. Offsets are the same everywhere, so a client can change its transport in mid-stream and lose nothing.`
}
