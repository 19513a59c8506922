// Readers that never read, beside some that do: what they do to the publisher and to the others, and what they cost.
import { load } from "../load.mjs"
import { median } from "../results.mjs"
import { command, grouped, loss } from "../runs.mjs"
import { bytes, figure, percent, table } from "../words.mjs"

export const about = {
  title: "100 readers that never read, beside 20 that do",
  what: "Records of 1 KiB into one stream: once as fast as they are acknowledged (16 in flight), once 500 a second. Each with and without the stalled ones, in turn, from when their socket buffers are full.",
}

// "full": left out of a quick run.
const SUBJECTS = [
  ["fourfold", "websocket"],
  ["nchan", "websocket", "full"],
  ["fourfold", "sse", "full"],
  ["nchan", "sse"],
  ["durable-streams", "sse", "full"],
  ["fourfold", "long-poll", "full"],
]

export async function run({ quick, rounds, measure }) {
  for (let round = 0; round < Math.min(rounds, 2); round++) {
    for (const [subject, transport, only] of SUBJECTS) {
      if (quick && only) continue
      for (const rate of [0, 500]) {
        for (const stalled of [0, 100]) {
          // A peer that falls behind is not asked more often than it takes to see that.
          if (round > 0 && subject !== "fourfold") continue
          const flags = {
            subscribers: 20,
            stalled,
            rate,
            inFlight: rate === 0 ? 16 : 1,
            size: 1024,
            seconds: quick ? 2 : rate === 0 ? 4 : 6,
            warmUp: 3, // Until what the kernel holds for the stalled ones is full: before, they are readers like others.
          }
          await measure({ round, subject, transport, rate, stalled }, () => load(subject, transport, flags))
        }
      }
    }
  }
}

/** The part of the page. */
export function section(runs) {
  return [
    table(
      [
        "",
        "appends/s without",
        "with",
        "change",
        "change of the others' p99 at 500/s",
        "process memory for each stalled one",
        "not delivered to the others",
      ],
      grouped(runs).map(([name, of]) => {
        const { without, beside, appends, p99, bytes: each } = harm(runs, of[0].subject, of[0].transport)
        return [name, figure(without), figure(beside), percent(appends), percent(p99), bytes(each), loss(of)]
      }),
    ),
    command(runs),
  ]
}

/** What the stalled readers changed, by round: { rate, p99, bytes }. */
export function harm(runs, subject, transport) {
  const of = runs.filter((run) => run.subject === subject && run.transport === transport)
  const pairs = of
    .filter((run) => run.stalled > 0)
    .map((run) => [of.find((each) => each.stalled === 0 && each.round === run.round && each.rate === run.rate), run])
    .filter(([without]) => without)
  const change = (rate, value) =>
    median(pairs.filter(([, run]) => run.rate === rate).map(([without, run]) => value(run) / value(without) - 1))
  return {
    appends: change(0, (run) => run.appendedPerSecond),
    p99: change(500, (run) => run.latencyMs?.p99),
    without: median(pairs.filter(([, run]) => run.rate === 0).map(([each]) => each.appendedPerSecond)),
    beside: median(pairs.filter(([, run]) => run.rate === 0).map(([, each]) => each.appendedPerSecond)),
    // At a fixed rate, so that both runs keep as much.
    bytes: median(pairs.filter(([, run]) => run.rate > 0).map(([without, run]) => (run.pssEndBytes - without.pssEndBytes) / run.stalled)),
  }
}
