// What several runs of a part say together. A run is what a measurement gave, with the key it was measured under.
import { median } from "./results.mjs"
import { figure, label } from "./words.mjs"

/** Runs with the same subject and transport, in order of appearance: [label, runs]. */
export function grouped(runs) {
  const groups = new Map()
  for (const run of runs) groups.set(label(run), [...(groups.get(label(run)) ?? []), run])
  return [...groups]
}

/** The median over rounds of a figure by an axis, as points. */
export function points(runs, axis, value) {
  const at = [...new Set(runs.map((run) => run[axis]))].sort((a, b) => a - b)
  return at.map((x) => [x, median(runs.filter((run) => run[axis] === x).map(value))])
}

/** CPU per delivery over that of the floor, of the same round and the same place on `axis`. */
export function overFloor(runs, run, axis) {
  const floor = runs.find((each) => each.subject === "floor" && each.round === run.round && (!axis || each[axis] === run[axis]))
  return run.cpuUsPerDelivery / (floor?.cpuUsPerDelivery ?? NaN)
}

export function loss(runs) {
  const sum = (name) => runs.reduce((total, run) => total + (run[name] ?? 0), 0)
  const [lost, doubled] = [sum("lost"), sum("doubled")]
  const cut = sum("brokenConnections")
  // A reader that was cut off could come back and go on from its offset, where the server knows offsets.
  if (cut > 0) return `${figure(lost)}: ${cut} readers were cut off`
  return `${lost > 0 ? `**${figure(lost)}**` : "0"}${doubled > 0 ? `, ${figure(doubled)} twice` : ""}`
}

/** How one of the runs behind a table can be repeated alone: that of our own server that comes last. */
export function command(runs) {
  const load = runs.findLast((run) => run.load && run.subject === "fourfold")?.load
  return load ? `One of these: \`${load}\`` : ""
}
