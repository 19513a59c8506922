// docs/transports.md: which transport costs what, on our own server, and what of the things that people say about them is so.
import { bars, lines } from "../plot.mjs";
import { last, median } from "../results.mjs";
import { bytes, figure, ratio, table, time, TRANSPORTS } from "../words.mjs";

/** As in performance.mjs. */
export function transports(plot, read = last) {
  const part = read("transports");
  if (!part || part.runs.length === 0) return undefined;
  const { runs } = part, idlePart = read("idle");
  const rates = [...new Set(runs.filter((run) => run.rate > 0).map((run) => run.rate))].sort((a, b) => a - b);
  const ways = [...new Map(runs.filter((run) => run.way === undefined).map((run) => [name(run), run])).values()];
  /** The median of a figure of a transport at a rate; short polls by their interval. */
  const at = (way, rate, value) => median(runs.filter((run) => run.way === undefined && name(run) === name(way) && run.rate === rate).map(value));
  const perSubscriber = (run) => run.cpuUsPerDelivery * run.rate;
  const facts = { at, rates, low: rates[0], high: rates.at(-1), mid: rates[Math.floor((rates.length - 1) / 2)], runs, idlePart };
  return [
    `# Which transport costs what

Fourfold writes the same records, from the same offsets, over four transports. So they can be compared on the same work, by the same server, and this page does that: 200 subscribers of one
stream, records of 128 B at the same rates, everything in memory. Every figure comes from \`${part.command}\`${idlePart ? ` and \`${idlePart.command}\`` : ""} (${part.machine.cpus} × ${part.machine.cpu}, loopback; begun ${part.startedAt.slice(0, 16).replace("T", " ")}), and this page was written by that command.
On a real network add its round trips: one for each record of a long poll, none for WebSocket and SSE. How other servers do is in [performance](performance.md).`,
    "## All in one table",
    table([`${figure(facts.low)} and ${figure(facts.high)} records/s to 200 subscribers`, `CPU per delivery at ${figure(facts.low)}/s`, `at ${figure(facts.high)}/s`, `p50 at ${figure(facts.mid)}/s`, "p99", `wire bytes per delivery at ${figure(facts.low)}/s`, `requests per delivery at ${figure(facts.low)}/s`, `at ${figure(facts.high)}/s`, "idle: CPU per connection and hour", "idle: memory"],
      ways.map((way) => [
        name(way), figure(at(way, facts.low, (run) => run.cpuUsPerDelivery), " µs"), figure(at(way, facts.high, (run) => run.cpuUsPerDelivery), " µs"),
        time(at(way, facts.mid, (run) => run.latencyMs?.p50)), time(at(way, facts.mid, (run) => run.latencyMs?.p99)),
        figure(at(way, facts.low, (run) => run.bytesPerDelivery), " B"),
        figure(at(way, facts.low, (run) => run.requestsPerDelivery)), figure(at(way, facts.high, (run) => run.requestsPerDelivery)),
        time(at(way, 0, idleMsPerHour)), bytes(at(way, 0, (run) => run.idleBytes)),
      ])),
    plot("transports-cpu", lines({
      title: "CPU for one subscriber against the rate of its stream", x: { label: "records a second", log: true, ticks: rates }, y: { label: "server CPU per subscriber, µs a second", log: true },
      series: ways.map((way) => ({ name: name(way), points: rates.map((rate) => [rate, at(way, rate, perSubscriber)]) })),
    })),
    plot("transports-latency", lines({
      title: `Median latency against the rate of the stream`, x: { label: "records a second", log: true, ticks: rates }, y: { label: "p50, ms", log: true },
      series: ways.map((way) => ({ name: name(way), points: rates.map((rate) => [rate, at(way, rate, (run) => run.latencyMs?.p50)]) })),
    })),
    plot("transports-idle", bars({
      title: "What waiting costs, while nothing happens", x: { label: "server CPU per connection and hour, ms (logarithmic)", log: true },
      rows: ways.map((way) => ({ name: name(way), value: Math.max(at(way, 0, idleMsPerHour), 0.1), note: time(at(way, 0, idleMsPerHour)) })),
    })),
    "## What people say", ...said(facts),
    "## How to choose", choose(facts),
    part.failures.length > 0 ? `Failed: ${part.failures.map((each) => `${name(each)} at ${each.rate}/s: ${each.error}`).join("; ")}.` : "",
  ].filter(Boolean).join("\n\n") + "\n";
}

function name({ transport, interval }) {
  return interval ? `${TRANSPORTS[transport]}, every ${interval >= 1000 ? `${interval / 1000} s` : `${interval} ms`}` : TRANSPORTS[transport];
}

function rate(records) {
  return records === 1 ? "one record a second" : `${figure(records)} records a second`;
}

function idleMsPerHour(run) {
  return run.cpuUs / run.connections / run.seconds * 3600 / 1000;
}

const WEBSOCKET = { transport: "websocket" }, SSE = { transport: "sse" }, LONG = { transport: "long-poll" };
const SECOND = { transport: "short-poll", interval: 1000 }, TENTH = { transport: "short-poll", interval: 100 };

function said({ at, low, mid, high, runs, idlePart }) {
  const cpu = (run) => run.cpuUsPerDelivery, p50 = (run) => run.latencyMs?.p50, p99 = (run) => run.latencyMs?.p99, requests = (run) => run.requestsPerDelivery;
  const back = (transport, value) => median(runs.filter((run) => run.way === "back" && run.transport === transport).map(value));
  const most = Math.max(...(idlePart?.runs ?? []).map((run) => run.connections));
  const idle = (transport) => idlePart?.runs.find((run) => run.subject === "fourfold" && run.transport === transport && run.connections === most)?.idleBytes ?? at({ transport }, 0, (run) => run.idleBytes);
  return [
    `**"WebSocket is heavy."** A delivery costs ${figure(at(WEBSOCKET, high, cpu), " µs")} by WebSocket and ${figure(at(SSE, high, cpu), " µs")} by SSE at ${rate(high)} (${ratio(at(WEBSOCKET, high, cpu) / at(SSE, high, cpu))}); an idle connection takes ${bytes(idle("websocket"))} and ${bytes(idle("sse"))} of memory. On the wire a record of 128 B becomes ${figure(at(WEBSOCKET, low, (run) => run.bytesPerDelivery), " B")} and ${figure(at(SSE, low, (run) => run.bytesPerDelivery), " B")}. What is heavy about WebSockets is what libraries keep for each.`,
    `**"SSE is one-way."** So it is: what goes back is a \`POST\` beside it. That costs ${figure(back("sse", (run) => run.cpuUsPerAppend), " µs")} of CPU per append and is acknowledged after ${time(back("sse", (run) => run.ackMs?.p50))} at the median, on a connection that is kept open; on the reader's own WebSocket ${figure(back("websocket", (run) => run.cpuUsPerAppend), " µs")} and ${time(back("websocket", (run) => run.ackMs?.p50))} (16 clients, each reading what it appends). The price of the way back is ${ratio(back("sse", (run) => run.cpuUsPerAppend) / back("websocket", (run) => run.cpuUsPerAppend))} the CPU.`,
    `**"Long polling delays."** Its median is ${time(at(LONG, mid, p50))} and its p99 ${time(at(LONG, mid, p99))} at ${rate(mid)}, where WebSocket has ${time(at(WEBSOCKET, mid, p50))} and ${time(at(WEBSOCKET, mid, p99))}. Nothing waits for a timer: a record that comes between two requests is there when the next one asks. On a network that adds the time of a request.`,
    `**"Long polling burdens the server."** A delivery costs ${figure(at(LONG, low, cpu), " µs")} at ${rate(low)} and ${figure(at(LONG, high, cpu), " µs")} at ${figure(high)}, ${ratio(at(LONG, low, cpu) / at(WEBSOCKET, low, cpu))} and ${ratio(at(LONG, high, cpu) / at(WEBSOCKET, high, cpu))} WebSocket's: a request is parsed for each answer (${figure(at(LONG, low, requests))} and ${figure(at(LONG, high, requests))} per delivery). While nothing happens it costs ${time(at(LONG, 0, idleMsPerHour))} of CPU an hour, WebSocket ${time(at(WEBSOCKET, 0, idleMsPerHour))}. \`linger\` gathers a constant flow into fewer answers, and portions keep one answer open.`,
    `**"Short polling wastes."** Where little happens: at ${rate(low)}, asked every 100 ms, ${figure(at(TENTH, low, requests))} requests bring one record, at ${figure(at(TENTH, low, cpu), " µs")} of CPU each. Where much happens it saves: at ${rate(high)}, asked once a second, ${figure(1 / at(SECOND, high, requests))} records come in one answer, and a delivery costs ${figure(at(SECOND, high, cpu), " µs")}, ${ratio(at(SECOND, high, cpu) / at(WEBSOCKET, high, cpu))} WebSocket's. What it costs is time: half the interval at the median (${time(at(SECOND, mid, p50))}). A 304 costs ${figure(at(SECOND, 0, (run) => run.cpuUsPerRequest), " µs")}.`,
  ];
}

function choose({ at, low, high }) {
  const cpu = (run) => run.cpuUsPerDelivery;
  const cheaper = at(SECOND, high, cpu) < at(SSE, high, cpu);
  return `- **SSE**, if the browser only reads, or writes seldom: it reconnects by itself, passes what passes HTTP, and costs ${ratio(at(SSE, high, cpu) / at(WEBSOCKET, high, cpu))} WebSocket's CPU per delivery.
- **WebSocket**, if the client also appends often, or wants its appends in order on one connection.
- **Long poll**, where something on the way holds answers back until they end. It costs ${ratio(at(LONG, low, cpu) / at(SSE, low, cpu))} SSE's CPU per delivery at ${rate(low)}, and ${time(at(LONG, low, (run) => run.latencyMs?.p50))} instead of ${time(at(SSE, low, (run) => run.latencyMs?.p50))} at the median.
- **Short poll**, if news may be as old as the interval${cheaper ? ` and the stream is fast: at ${rate(high)} and a second's interval it is the cheapest of all` : ""}; or if connections must not stay open. Ask when \`Stream-Poll-After\` says, not on a fixed beat.
- Not sure: begin with SSE. Offsets are the same everywhere, so a client can change its transport in mid-stream and lose nothing.`;
}
