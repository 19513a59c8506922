// Plots as SVG, by hand: lines with markers over linear or logarithmic axes, and bars. Readable in light and dark: the colours of
// text and grid follow the reader's scheme, those of the lines have contrast on both. Lines differ by marker too, not by colour alone.

const WIDTH = 800,
  HEIGHT = 420,
  LEFT = 68,
  RIGHT = 225,
  TOP = 44,
  BOTTOM = 58
const COLOURS = ["#3a7fd5", "#d9731a", "#2c9c6a", "#c94a6b", "#8a63c9", "#8b8f98", "#1b9aaa", "#a67c1a", "#6b8e23", "#b0509c"]
const STYLE = `
  svg { font: 13px system-ui, sans-serif; }
  .ground { fill: #ffffff; } text { fill: #24292f; } .quiet { fill: #57606a; } .grid { stroke: #d8dee4; } .axis { stroke: #8c959f; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; } text { fill: #e6edf3; } .quiet { fill: #9198a1; } .grid { stroke: #30363d; } .axis { stroke: #6e7681; }
  }`

/**
 * Lines. `x` and `y` are axes: { label, log?, ticks?, format? }, their label names the unit. `series` is [{ name, points: [[x, y], …],
 * dashed? }]. Points that are not finite are left out.
 */
export function lines({ title, x, y, series }) {
  const shown = series
    .map((each) => ({ ...each, points: each.points.filter((p) => p.every(Number.isFinite)) }))
    .filter((each) => each.points.length > 0)
  const across = scale(
    x,
    shown.flatMap((each) => each.points.map((p) => p[0])),
    LEFT,
    WIDTH - RIGHT,
  )
  const up = scale(
    y,
    shown.flatMap((each) => each.points.map((p) => p[1])),
    HEIGHT - BOTTOM,
    TOP,
  )
  const out = [...frame(title, x, y, across, up)]
  shown.forEach(({ name, points, dashed }, n) => {
    const colour = COLOURS[n % COLOURS.length]
    const at = points.map(([a, b]) => [across.place(a), up.place(b)])
    const dash = dashed ? ` stroke-dasharray="6 4"` : ""
    out.push(
      `<polyline fill="none" stroke="${colour}" stroke-width="2"${dash} points="${at.map((p) => p.map(round).join(",")).join(" ")}"/>`,
    )
    if (at.length <= 20) for (const p of at) out.push(marker(n, ...p, colour))
    const row = TOP + 10 + n * 22
    out.push(
      `<line x1="${WIDTH - RIGHT + 12}" x2="${WIDTH - RIGHT + 36}" y1="${row}" y2="${row}" stroke="${colour}" stroke-width="2"${dash}/>`,
    )
    out.push(marker(n, WIDTH - RIGHT + 24, row, colour), text(WIDTH - RIGHT + 42, row + 4, name))
  })
  return svg(title, HEIGHT, out)
}

/** Bars that lie, one a row: `rows` is [{ name, value, note? }]; `mark` draws a line at a value, as { value, label }. */
export function bars({ title, x, rows, mark }) {
  const shown = rows.filter((row) => Number.isFinite(row.value))
  const top = mark ? TOP + 16 : TOP
  const height = top + shown.length * 26 + BOTTOM,
    left = 200,
    right = 70
  const across = scale(
    { ...x, from: x.log ? undefined : 0 },
    [...shown.map((row) => row.value), ...(mark ? [mark.value] : [])],
    left,
    WIDTH - right,
  )
  const out = []
  for (const tick of across.ticks) {
    const at = round(across.place(tick))
    out.push(
      `<line class="grid" x1="${at}" x2="${at}" y1="${top}" y2="${height - BOTTOM}"/>`,
      text(at, height - BOTTOM + 18, across.show(tick), "middle", "quiet"),
    )
  }
  shown.forEach((row, n) => {
    const y = top + n * 26 + 4,
      end = across.place(row.value),
      colour = COLOURS[(row.colour ?? 0) % COLOURS.length]
    out.push(`<rect x="${left}" y="${y}" width="${round(Math.max(1, end - left))}" height="18" rx="2" fill="${colour}"/>`)
    out.push(text(left - 8, y + 14, row.name, "end"), text(end + 6, y + 14, row.note ?? across.show(row.value)))
  })
  if (mark) {
    const at = round(across.place(mark.value))
    out.push(
      `<line class="axis" stroke-dasharray="4 3" x1="${at}" x2="${at}" y1="${top - 6}" y2="${height - BOTTOM}"/>`,
      text(at + 4, top - 10, mark.label, "start", "quiet"),
    )
  }
  out.push(text((left + WIDTH - right) / 2, height - 16, x.label, "middle", "quiet"))
  return svg(title, height, out)
}

function svg(title, height, body) {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="${escape(title)}">
<style>${STYLE}
</style>
<rect class="ground" width="${WIDTH}" height="${height}"/>
<text x="16" y="24" font-size="15" font-weight="600">${escape(title)}</text>
${body.join("\n")}
</svg>
`
}

function* frame(title, x, y, across, up) {
  for (const tick of up.ticks) {
    const at = round(up.place(tick))
    yield `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${at}" y2="${at}"/>`
    yield text(LEFT - 8, at + 4, up.show(tick), "end", "quiet")
  }
  for (const tick of across.ticks) {
    const at = round(across.place(tick))
    yield `<line class="grid" x1="${at}" x2="${at}" y1="${TOP}" y2="${HEIGHT - BOTTOM}"/>`
    yield text(at, HEIGHT - BOTTOM + 18, across.show(tick), "middle", "quiet")
  }
  yield `<path class="axis" fill="none" d="M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}"/>`
  yield text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 16, x.label, "middle", "quiet")
  const middle = (TOP + HEIGHT - BOTTOM) / 2
  yield `<text class="quiet" transform="translate(16 ${middle}) rotate(-90)" text-anchor="middle">${escape(y.label)}</text>`
}

/** Where a value lies between two pixels, and which values are named. */
function scale({ log, ticks, format, from, to }, values, first, last) {
  const show = format ?? number
  if (values.length === 0) values = [1]
  let [low, high] = [from ?? Math.min(...values), to ?? Math.max(...values)]
  if (log) {
    const named = ticks ?? decades(low, high)
    ;[low, high] = [Math.min(low, named[0]), Math.max(high, named.at(-1))]
    if (low === high) high = low * 2
    const span = Math.log(high / low)
    return { ticks: named, show, place: (v) => first + ((last - first) * Math.log(v / low)) / span }
  }
  low = Math.min(0, low)
  const step = roundStep((high - low || 1) / 5)
  const named = ticks ?? Array.from({ length: Math.ceil(high / step) + 1 }, (_, n) => n * step)
  high = Math.max(high, named.at(-1)) || 1
  return { ticks: named, show, place: (v) => first + ((last - first) * (v - low)) / (high - low) }
}

/** 1, 2, 5, 10, … around the values; whole decades if they span more than three. */
function decades(low, high) {
  const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))]
  const steps = to - from > 3 ? [1] : [1, 2, 5]
  const all = []
  for (let power = from; power <= to; power++) for (const step of steps) all.push(Number((step * 10 ** power).toPrecision(3)))
  const begin = all.findLastIndex((v) => v <= low),
    end = all.findIndex((v) => v >= high)
  return all.slice(Math.max(0, begin), end < 0 ? undefined : end + 1)
}

function roundStep(raw) {
  const power = 10 ** Math.floor(Math.log10(raw))
  return [1, 2, 2.5, 5, 10].find((step) => step * power >= raw) * power
}

/** 1,200,000 as 1.2 M, 0.025 as it is. */
export function number(value) {
  const size = Math.abs(value)
  if (size >= 1e6) return `${trim(value / 1e6)} M`
  if (size >= 10_000) return `${trim(value / 1e3)} k`
  if (size >= 1000) return Math.round(value).toLocaleString("en-GB")
  return trim(value)
}

function trim(value) {
  return String(Number(value.toPrecision(3)))
}

function marker(n, x, y, colour) {
  const [a, b] = [round(x), round(y)]
  switch (n % 4) {
    case 0:
      return `<circle cx="${a}" cy="${b}" r="4" fill="${colour}"/>`
    case 1:
      return `<rect x="${round(x - 3.5)}" y="${round(y - 3.5)}" width="7" height="7" fill="${colour}"/>`
    case 2:
      return `<path d="M${a} ${round(y - 5)}l4.5 8h-9z" fill="${colour}"/>`
    default:
      return `<path d="M${a} ${round(y - 5)}l5 5l-5 5l-5-5z" fill="${colour}"/>`
  }
}

function text(x, y, content, anchor = "start", kind = "") {
  return `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}"${kind && ` class="${kind}"`}>${escape(String(content))}</text>`
}

function round(value) {
  return Math.round(value * 10) / 10
}

function escape(content) {
  return content.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c])
}
