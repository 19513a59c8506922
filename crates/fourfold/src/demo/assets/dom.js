// Small things that every scenario uses.

/** An element with these properties. */
export function el(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties)
  element.append(...children)
  return element
}

/** The parts of an element that have a `data-slot`, by its name. */
export function slots(root) {
  return Object.fromEntries([...root.querySelectorAll("[data-slot]")].map((part) => [part.dataset.slot, part]))
}

/** JSON in localStorage, or what stands in for it. */
export function stored(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? otherwise
  } catch {
    return otherwise
  }
}

export function store(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value))
  } catch {
    // Full, or not allowed: it lasts as long as the page.
  }
}

/** Bytes for people. */
export function bytes(count) {
  const units = ["B", "kB", "MB", "GB"]
  let unit = 0
  for (; count >= 999.5 && unit < units.length - 1; unit += 1) count /= 1_000
  return `${unit && count < 100 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`
}

export const clock = (at) => new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })

/** Letters and digits nobody else has. */
export function random() {
  return [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("")
}

/** A canvas made as sharp as the screen, and its size in CSS pixels. */
export function sharp(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas
  const ratio = window.devicePixelRatio || 1
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)]
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h })
  const pen = canvas.getContext("2d")
  pen.setTransform(ratio, 0, 0, ratio, 0, 0)
  pen.clearRect(0, 0, width, height)
  return { pen, width, height }
}

/** The page's colours, by the names of its style sheet. */
export function colours(...names) {
  const style = getComputedStyle(document.documentElement)
  return names.map((name) => style.getPropertyValue(`--${name}`).trim())
}
