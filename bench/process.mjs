// What the kernel says about a server: CPU time and memory of its whole process tree, by /proc.
import { readFileSync, readdirSync } from "node:fs"

/** The process and all below it. A process that ends meanwhile is left out. */
export function tree(pid) {
  const found = [pid]
  for (let at = 0; at < found.length; at++) {
    for (const task of list(`/proc/${found[at]}/task`)) {
      found.push(...read(`/proc/${found[at]}/task/${task}/children`).split(" ").filter(Boolean).map(Number))
    }
  }
  return found
}

/** CPU time so far, in microseconds. By thread, in nanoseconds: the ticks of `stat` are 10 ms. */
export function cpuUs(pid) {
  let ns = 0
  for (const each of tree(pid)) {
    for (const task of list(`/proc/${each}/task`)) {
      ns += Number(read(`/proc/${each}/task/${task}/schedstat`).split(" ")[0] || 0)
    }
  }
  return ns / 1000
}

/** Process memory in bytes: PSS, so that what a master and its worker share counts once. */
export function pssBytes(pid) {
  let kib = 0
  for (const each of tree(pid)) kib += Number(/^Pss:\s+(\d+)/m.exec(read(`/proc/${each}/smaps_rollup`))?.[1] ?? 0)
  return kib * 1024
}

/** Memory of TCP sockets of the whole machine, in bytes: what the kernel holds of unsent and unread data. */
export function tcpBytes() {
  return Number(/^TCP:.* mem (\d+)/m.exec(read("/proc/net/sockstat"))?.[1] ?? 0) * 4096
}

function read(path) {
  try {
    return readFileSync(path, "utf8")
  } catch {
    return ""
  }
}

function list(path) {
  try {
    return readdirSync(path)
  } catch {
    return []
  }
}
