// How the pages name and write things: subjects, transports, figures, tables.
import { number } from "./plot.mjs"

export const SUBJECTS = {
  floor: "floor",
  fourfold: "Fourfold",
  nchan: "nchan",
  "durable-streams": "durable-streams",
  "socket.io": "Socket.IO",
  disk: "disk",
}
export const TRANSPORTS = {
  websocket: "WebSocket",
  sse: "SSE",
  "long-poll": "long poll",
  portions: "long poll in portions",
  "short-poll": "short poll",
  push: "`write()`",
  file: "direct read",
}

/** "nchan SSE"; of the floor, which has no transport, only "floor". */
export function label({ subject, transport }) {
  return subject === "floor" ? "floor" : `${SUBJECTS[subject]} ${TRANSPORTS[transport]}`
}

/** Three digits, or a dash for what was not measured. */
export function figure(value, unit = "") {
  return Number.isFinite(value) ? `${number(value)}${unit}` : "–"
}

/** Milliseconds; seconds from 1,000 on. */
export function time(ms) {
  return Math.abs(ms) >= 1000 ? figure(ms / 1000, " s") : figure(ms, " ms")
}

export function ratio(value) {
  return Number.isFinite(value) ? `${value.toFixed(2)} ×` : "–"
}

/** A part of a whole. */
export function share(value) {
  return Number.isFinite(value) ? `${Math.round(value * 100)} %` : "–"
}

/** A change. */
export function percent(value) {
  return Number.isFinite(value) ? `${value > 0 ? "+" : ""}${(value * 100).toFixed(1)} %` : "–"
}

/** 1,234 B below 10 kB, then kB, MB and GB of 1,000. */
export function bytes(value) {
  if (!Number.isFinite(value)) return "–"
  if (Math.abs(value) < 10_000) return `${Math.round(value).toLocaleString("en-GB")} B`
  const [unit, size] = Math.abs(value) < 1e6 ? ["kB", 1e3] : Math.abs(value) < 1e9 ? ["MB", 1e6] : ["GB", 1e9]
  return `${Number((value / size).toPrecision(3))} ${unit}`
}

/** The first `left` columns hold words, the others figures. */
export function table(heads, rows, left = 1) {
  const line = (cells) => `| ${cells.join(" | ")} |`
  return [line(heads), line(heads.map((_, n) => (n < left ? "---" : "---:"))), ...rows.map(line)].join("\n")
}
