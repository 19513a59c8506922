// docs/performance.md: Fourfold beside its peers and beside the floor.
import { bars, lines } from "../plot.mjs";
import { last, median } from "../results.mjs";
import { bytes, figure, label, percent, ratio, share, SUBJECTS, table, time, TRANSPORTS } from "../words.mjs";
import { bars as goals } from "./goals.mjs";

const SECTIONS = { fan_out, wake, growth, idle, poll, append, burst, stalled, cold, catch_up };

/** The page, or undefined if nothing was measured. `plot` keeps a picture and answers the line that shows it; `read` has the results of a part. */
export function performance(plot, read = last) {
  const parts = Object.fromEntries(Object.keys(SECTIONS).map((name) => [name, read(name)]));
  const there = Object.values(parts).filter(Boolean);
  if (there.length === 0) return undefined;
  const missing = Object.keys(SECTIONS).filter((name) => !parts[name]);
  return [
    head(there), goals(Object.fromEntries(Object.entries(parts).filter(([, part]) => part?.runs.length > 0))),
    ...Object.entries(SECTIONS).filter(([name]) => parts[name]).map(([name, section]) => {
      const { runs } = parts[name];
      return [title(parts[name]), ...(runs.length > 0 ? section(runs, plot) : []), failures(parts[name])].filter(Boolean).join("\n\n");
    }),
    missing.length > 0 ? `Not measured in this run: ${missing.join(", ")}.` : "",
  ].filter(Boolean).join("\n\n") + "\n";
}

function head(there) {
  const { machine, startedAt } = there[0];
  const { versions } = machine;
  const quick = there.some((part) => part.profile === "quick");
  return `# Performance

What Fourfold costs beside its peers, and beside **the floor**: a C program that does nothing but \`write()\` a prebuilt frame to each socket (\`bench/floor.c\`), the least
that the kernel lets a server of one thread pay. Everything here was measured by one command, over loopback, each subject in turn, and this page was written by it:

\`\`\`sh
bench/peers${quick ? " --quick" : ""}
\`\`\`

Trust the ratios: the load generator shares the machine. CPU is that of the server's whole process tree, kernel included; latency counts from the moment at which the schedule
wanted a record sent, so a stall cannot hide. ${quick ? "**This is a quick run: short and once each; a full one is slower and steadier.** " : "Where there are several rounds the median is shown. "}For our own transports beside each other see [transports](transports.md).

${table(["", ""], [
    ["machine", `${machine.cpus} × ${machine.cpu}, ${machine.memoryGib} GiB, Linux ${machine.kernel}, ${machine.congestion ?? "unknown"}`],
    ["Fourfold", versions.fourfold ?? "–"],
    ["[nchan](https://nchan.io)", `${versions.nchan ?? "–"} in nginx ${versions.nginx ?? "–"}, one worker (Debian)`],
    ["[durable-streams](https://github.com/durable-streams/durable-streams)", `${versions["durable-streams"] ?? "–"}, ElectricSQL's server in Rust`],
    ["[Socket.IO](https://socket.io)", `${versions["socket.io"] ?? "–"} on Node ${versions.node}`],
    ["begun", startedAt.slice(0, 16).replace("T", " ")],
  ])}`;
}

function title({ about, command }) {
  return `## ${about.title}\n\n${about.what} All of it: \`${command}\`.`;
}

/** How one of the runs behind a table can be repeated alone: that of our own server that comes last. */
function command(runs) {
  const load = runs.findLast((run) => run.load && run.subject === "fourfold")?.load;
  return load ? `One of these: \`${load}\`` : "";
}

function failures({ failures: failed }) {
  if (failed.length === 0) return "";
  const named = (each) => [label(each), ...Object.entries(each).filter(([name]) => !["subject", "transport", "error", "round"].includes(name)).map(([name, value]) => `${name} ${value}`)].join(", ");
  return `Failed: ${failed.map((each) => `${each.subject ? named(each) : "the part"}: ${each.error.replace(/\s+/g, " ").slice(0, 160)}`).join("; ")}.`;
}

/** Runs with the same subject and transport, in order of appearance: [label, runs]. */
function grouped(runs) {
  const groups = new Map();
  for (const run of runs) groups.set(label(run), [...(groups.get(label(run)) ?? []), run]);
  return [...groups];
}

/** The median over rounds of a figure by an axis, as points. */
function points(runs, axis, value) {
  const at = [...new Set(runs.map((run) => run[axis]))].sort((a, b) => a - b);
  return at.map((x) => [x, median(runs.filter((run) => run[axis] === x).map(value))]);
}

/** CPU per delivery over that of the floor, of the same round and the same place on `axis`. */
export function overFloor(runs, run, axis) {
  const floor = runs.find((each) => each.subject === "floor" && each.round === run.round && (!axis || each[axis] === run[axis]));
  return run.cpuUsPerDelivery / (floor?.cpuUsPerDelivery ?? NaN);
}

function fan_out(runs, plot) {
  const groups = grouped(runs);
  const rows = groups.map(([name, of]) => [
    name, figure(median(of.map((run) => run.cpuUsPerDelivery)), " µs"), ratio(median(of.map((run) => overFloor(runs, run)))),
    ...["p50", "p90", "p99", "p999"].map((p) => time(median(of.map((run) => run.latencyMs?.[p])))),
    figure(median(of.map((run) => run.bytesPerDelivery)), " B"), figure(median(of.map((run) => run.requestsPerDelivery))), share(median(of.map((run) => run.busy))), loss(of),
  ]);
  const ranked = groups.map(([name, of]) => ({ name, value: median(of.map((run) => overFloor(runs, run))), colour: of[0].subject === "fourfold" ? 0 : 5 }))
    .sort((a, b) => a.value - b.value).map((row) => ({ ...row, note: ratio(row.value) }));
  return [
    table(["", "CPU per delivery", "over the floor", "p50", "p90", "p99", "p99.9", "wire per delivery", "requests per delivery", "machine busy", "lost"], rows),
    command(runs),
    plot("cpu-per-delivery", bars({ title: "CPU per delivery, one record a wake", x: { label: "times the floor" }, rows: ranked, mark: { value: 1, label: "floor" } })),
    plot("latency", lines({
      title: "Latency of deliveries", x: { label: "percentile of deliveries (logarithmic towards 100 %)", log: true, ticks: [2, 10, 100, 1000, 10_000], format: nines },
      y: { label: "latency, ms", log: true },
      series: groups.map(([name, of]) => ({ name, dashed: name === "floor", points: curve(of) })),
    })),
  ];
}

function nines(value) {
  return `${Number((100 - 100 / value).toFixed(2))} %`;
}

/** Percentiles as [1 / (1 - p), ms], the median over rounds. */
function curve(runs) {
  const at = [["p50", 2], ["p75", 4], ["p90", 10], ["p95", 20], ["p99", 100], ["p999", 1000], ["p9999", 10_000]];
  return at.map(([name, x]) => [x, median(runs.map((run) => run.latencyMs?.[name]))]);
}

function loss(runs) {
  const sum = (name) => runs.reduce((total, run) => total + (run[name] ?? 0), 0);
  const [lost, doubled] = [sum("lost"), sum("doubled")];
  const cut = sum("brokenConnections");
  // A reader that was cut off could come back and go on from its offset, where the server knows offsets.
  if (cut > 0) return `${figure(lost)}: ${cut} readers were cut off`;
  return `${lost > 0 ? `**${figure(lost)}**` : "0"}${doubled > 0 ? `, ${figure(doubled)} twice` : ""}`;
}

function wake(runs, plot) {
  const groups = grouped(runs), at = [...new Set(runs.map((run) => run.wake))].sort((a, b) => a - b);
  const rows = groups.map(([name, of]) => [name, ...at.flatMap((wake) => {
    const here = of.filter((run) => run.wake === wake);
    const us = median(here.map((run) => run.cpuUsPerDelivery)), over = median(here.map((run) => overFloor(runs, run, "wake")));
    return `${figure(us, " µs")}${name === "floor" || !Number.isFinite(over) ? "" : ` (${ratio(over)})`}`;
  })]);
  return [
    table(["records a wake", ...at.map(String)], rows),
    command(runs),
    plot("records-a-wake", lines({
      title: "CPU per delivery against records a wake", x: { label: "records a wake", log: true, ticks: at }, y: { label: "CPU per delivery, µs", log: true },
      series: groups.map(([name, of]) => ({ name, dashed: name === "floor", points: points(of, "wake", (run) => run.cpuUsPerDelivery) })),
    })),
  ];
}

function growth(runs, plot) {
  const out = [];
  for (const [axis, what] of [["subscribers", "subscribers of one stream"], ["streams", "streams, 1,000 subscribers over all"]]) {
    const here = runs.filter((run) => run[axis]);
    if (here.length === 0) continue;
    const groups = grouped(here), at = [...new Set(here.map((run) => run[axis]))].sort((a, b) => a - b);
    out.push(table([what, ...at.map((n) => n.toLocaleString("en-GB"))], groups.map(([name, of]) => [name, ...at.map((n) => {
      const run = of.find((each) => each[axis] === n);
      return run ? `${figure(run.cpuUsPerDelivery, " µs")}, p99 ${time(run.latencyMs?.p99)}` : "–";
    })])));
    out.push(command(here));
    out.push(plot(`growth-${axis}`, lines({
      title: `CPU per delivery against ${axis}, at 20,000 deliveries/s`, x: { label: what, log: true, ticks: at }, y: { label: "CPU per delivery, µs" },
      series: groups.map(([name, of]) => ({ name, dashed: name === "floor", points: points(of, axis, (run) => run.cpuUsPerDelivery) })),
    })));
  }
  return out;
}

function idle(runs, plot) {
  const groups = grouped(runs), at = [...new Set(runs.map((run) => run.connections))].sort((a, b) => a - b);
  return [
    table(["bytes each, at", ...at.map((n) => `${n.toLocaleString("en-GB")} connections`)], groups.map(([name, of]) => [name, ...at.map((n) => bytes(of.find((run) => run.connections === n)?.idleBytes))])),
    command(runs),
    plot("idle-memory", lines({
      title: "Memory of idle connections", x: { label: "connections", log: true, ticks: at }, y: { label: "process memory of all connections, MB", log: true },
      series: groups.map(([name, of]) => ({ name, points: points(of, "connections", (run) => run.idleBytes * run.connections / 1e6) })),
    })),
  ];
}

function poll(runs, plot) {
  const groups = grouped(runs), at = [...new Set(runs.map((run) => run.interval))].sort((a, b) => a - b);
  const each = (of, interval) => of.filter((run) => run.interval === interval);
  return [
    table(["CPU per request, at an interval of", ...at.map((ms) => `${ms} ms`)], groups.map(([name, of]) => [name, ...at.map((ms) => figure(median(each(of, ms).map((run) => run.cpuUsPerRequest)), " µs"))])),
    command(runs),
    plot("idle-poller", lines({
      title: "What 1,000 idle pollers cost", x: { label: "interval, ms", log: true, ticks: at }, y: { label: "CPU, percent of one core", log: true },
      series: groups.map(([name, of]) => ({ name, points: points(of, "interval", (run) => run.cpuUsPerRequest * (1000 * 1000 / run.interval) / 1e6 * 100) })),
    })),
  ];
}

function append(runs, plot) {
  const many = runs.filter((run) => run.shape === "streams"), growing = runs.filter((run) => run.shape === "writers");
  const kind = { fourfold: "synced", "durable-streams": "synced", nchan: "not on disk" };
  const out = [];
  if (many.length > 0) {
    out.push(table(["16 streams, 64 appends in flight", "acknowledged", "appends/s", "CPU per append and its delivery", "acknowledged p50", "p99", "delivered p50", "p99", "lost"],
      Object.keys(kind).filter((subject) => many.some((run) => run.subject === subject)).map((subject) => {
        const of = many.filter((run) => run.subject === subject), mid = (value) => median(of.map(value));
        return [SUBJECTS[subject], kind[subject], figure(mid((run) => run.appendsPerSecond)), figure(mid((run) => run.cpuUsPerAppend), " µs"),
          time(mid((run) => run.ackMs?.p50)), time(mid((run) => run.ackMs?.p99)), time(mid((run) => run.latencyMs?.p50)), time(mid((run) => run.latencyMs?.p99)), loss(of)];
      })), command(many));
  }
  if (growing.length > 0) {
    const at = [...new Set(growing.map((run) => run.writers))].sort((a, b) => a - b);
    const series = Object.keys(kind).map((subject) => ({ name: `${SUBJECTS[subject]}, ${kind[subject]}`, points: points(growing.filter((run) => run.subject === subject), "writers", (run) => run.appendsPerSecond) }));
    out.push(table(["appends/s of one stream, writers", ...at.map(String)], series.map(({ name, points: all }) => [name, ...at.map((n) => figure(all.find(([x]) => x === n)?.[1]))])), command(growing));
    out.push(plot("appends", lines({ title: "Appends against writers, one in flight each", x: { label: "writers", log: true, ticks: at }, y: { label: "acknowledged appends/s", log: true }, series })));
  }
  return out;
}

function burst(runs) {
  return [table(["", "appended/s", "delivered/s to 10 readers", "lost", "p50", "p99", "CPU per delivery"], runs.map((run) => [
    label(run), figure(run.appendedPerSecond), figure(run.deliveredPerSecond), loss([run]), time(run.latencyMs?.p50), time(run.latencyMs?.p99), figure(run.cpuUsPerDelivery, " µs"),
  ])), command(runs)];
}

/** What the stalled readers changed, by round: { rate, p99, bytes }. */
export function harm(runs, subject, transport) {
  const of = runs.filter((run) => run.subject === subject && run.transport === transport);
  const pairs = of.filter((run) => run.stalled > 0).map((run) => [of.find((each) => each.stalled === 0 && each.round === run.round && each.rate === run.rate), run]).filter(([without]) => without);
  const change = (rate, value) => median(pairs.filter(([, run]) => run.rate === rate).map(([without, run]) => value(run) / value(without) - 1));
  return {
    appends: change(0, (run) => run.appendedPerSecond),
    p99: change(500, (run) => run.latencyMs?.p99),
    without: median(pairs.filter(([, run]) => run.rate === 0).map(([each]) => each.appendedPerSecond)),
    beside: median(pairs.filter(([, run]) => run.rate === 0).map(([, each]) => each.appendedPerSecond)),
    // At a fixed rate, so that both runs keep as much.
    bytes: median(pairs.filter(([, run]) => run.rate > 0).map(([without, run]) => (run.pssEndBytes - without.pssEndBytes) / run.stalled)),
  };
}

function stalled(runs) {
  return [table(["", "appends/s without", "with", "change", "change of the others' p99 at 500/s", "process memory for each stalled one", "not delivered to the others"], grouped(runs).map(([name, of]) => {
    const { without, beside, appends, p99, bytes: each } = harm(runs, of[0].subject, of[0].transport);
    return [name, figure(without), figure(beside), percent(appends), percent(p99), bytes(each), loss(of)];
  })), command(runs)];
}

function cold(runs) {
  return [table(["", "streams", "start to first answer", "memory per cold stream", "disk per stream", "read of a cold one, p50", "p99", "created/s"], runs.map((run) => [
    SUBJECTS[run.subject], run.streams.toLocaleString("en-GB"), figure(run.startMs / 1000, " s"), bytes(run.bytesPerColdStream), bytes(run.diskBytesPerStream),
    time(run.readMsP50), time(run.readMsP99), figure(run.streams / run.fillSeconds),
  ]))];
}

function catch_up(runs, plot) {
  const groups = grouped(runs).map(([, of]) => of);
  const name = ({ subject, transport }) => (subject === "floor" ? "floor (`write()`)" : `${SUBJECTS[subject]} ${TRANSPORTS[transport]}`);
  return [
    table(["", "rate", "requests", "CPU per MB", "memory before", "at its peak"], groups.map((of) => {
      const mid = (value) => median(of.map(value));
      return [name(of[0]), figure(mid((run) => run.mbPerSecond), " MB/s"), figure(mid((run) => run.requests)), time(mid((run) => run.cpuMsPerMb)), bytes(mid((run) => run.pssBefore)), bytes(mid((run) => run.pssPeak))];
    })),
    plot("catch-up", bars({ title: "Catch-up by one reader", x: { label: "MB/s" }, rows: groups.map((of) => ({ name: name(of[0]).replaceAll("`", ""), value: median(of.map((run) => run.mbPerSecond)), colour: of[0].subject === "fourfold" ? 0 : 5 })) })),
  ];
}
