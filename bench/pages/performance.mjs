// docs/performance.md: Fourfold beside its peers and beside the floor.
import { PARTS } from "../parts.mjs"
import { last, median } from "../results.mjs"
import { label, share, table } from "../words.mjs"
import { goals } from "./goals.mjs"

// Half of one core of two; what the kernel does for nobody in particular is below it.
const OTHERS_MAX = 0.25
const OWN_PAGE = "transports"
const SECTIONS = Object.entries(PARTS).filter(([name]) => name !== OWN_PAGE)

/** The page, or undefined if nothing was measured. `plot` keeps a picture and answers the line that shows it; `read` has the results of a part. */
export function performance(plot, read = last) {
  const parts = Object.fromEntries(SECTIONS.map(([name]) => [name, read(name)]))
  const there = Object.values(parts).filter(Boolean)
  if (there.length === 0) return undefined
  const missing = SECTIONS.map(([name]) => name).filter((name) => !parts[name])
  return (
    [
      head(there),
      goals(Object.fromEntries(Object.entries(parts).filter(([, part]) => part?.runs.length > 0))),
      ...SECTIONS.filter(([name]) => parts[name]).map(([name, { section }]) => {
        const { runs } = parts[name]
        return [title(parts[name]), ...(runs.length > 0 ? section(runs, plot) : []), failures(parts[name])].filter(Boolean).join("\n\n")
      }),
      missing.length > 0 ? `Not measured in this run: ${missing.join(", ")}.` : "",
    ]
      .filter(Boolean)
      .join("\n\n") + "\n"
  )
}

function head(there) {
  const { machine, startedAt } = there[0]
  const { versions } = machine
  const short = there.filter((part) => part.profile === "quick").length,
    quick = short === there.length
  const builds = [...new Set(there.map((part) => part.machine.versions.fourfold ?? "–"))]
  const others = median(there.flatMap((part) => part.runs.map((run) => run.others)))
  return `# Performance

What Fourfold costs beside its peers, and beside **the floor**: a C program that does nothing but \`write()\` a prebuilt frame to each socket (\`bench/floor.c\`), the least
that the kernel lets a server of one thread pay. Everything here was measured by one command, over loopback, each subject in turn, and this page was written by it:

\`\`\`sh
bench/peers${quick ? " --quick" : ""}
\`\`\`

Trust the ratios: the load generator shares the machine. CPU is that of the server's whole process tree, kernel included; latency counts from the moment at which the schedule
wanted a record sent, so a stall cannot hide. ${said(quick, short)} For our own transports beside each other see [transports](transports.md).

${others > OTHERS_MAX ? `**Something else took ${share(others)} of the machine meanwhile: the figures of this run are not to be trusted.**\n\n` : ""}${table(
    ["", ""],
    [
      [
        "machine",
        `${machine.cpus} × ${machine.cpu}, ${machine.memoryGib} GiB, Linux ${machine.kernel}, ${machine.congestion ?? "unknown"}`,
      ],
      ["Fourfold", builds.join(", ")],
      ["[nchan](https://nchan.io)", `${versions.nchan ?? "–"} in nginx ${versions.nginx ?? "–"}, one worker (Debian)`],
      [
        "[durable-streams](https://github.com/durable-streams/durable-streams)",
        `${versions["durable-streams"] ?? "–"}, ElectricSQL's server in Rust`,
      ],
      ["[Socket.IO](https://socket.io)", `${versions["socket.io"] ?? "–"} on Node ${versions.node}`],
      ["begun", startedAt.slice(0, 16).replace("T", " ")],
    ],
  )}`
}

function said(quick, short) {
  if (quick) return "**This is a quick run: short and once each; a full one is slower and steadier.**"
  const rounds = "Where there are several rounds the median is shown."
  return short === 0 ? rounds : `${rounds} **Parts whose command says \`--quick\` were run short and once.**`
}

function title({ about, command }) {
  return `## ${about.title}\n\n${about.what} All of it: \`${command}\`.`
}

function failures({ failures: failed }) {
  if (failed.length === 0) return ""
  const named = (each) =>
    [
      label(each),
      ...Object.entries(each)
        .filter(([name]) => !["subject", "transport", "error", "round"].includes(name))
        .map(([name, value]) => `${name} ${value}`),
    ].join(", ")
  return `Failed: ${failed.map((each) => `${each.subject ? named(each) : "the part"}: ${each.error.replace(/\s+/g, " ").slice(0, 160)}`).join("; ")}.`
}
