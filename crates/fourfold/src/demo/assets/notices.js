// Scenario 4: notifications. What this visitor has read is a stream of his own, so that all tabs agree: unread is what two streams say
// together. Each of its records holds the whole position, and positions are united, whichever tab wrote them.
import { writer } from "./fourfold.js"
import { clock, el, random, slots } from "./dom.js"
import { begin } from "./progress.js"

const SHOWN = 30
const PASSERS_BY = [
  "Is anybody here?",
  "The tail has moved again.",
  "I slept for a week and missed nothing.",
  "Which transport are you on?",
  "Somebody cut my cable, I did not notice.",
]

export async function notices(carriage, { streams, visitor, chat }) {
  const parts = slots(document.getElementById("notices"))
  const bell = slots(document.querySelector(".masthead"))
  const mine = `demo/read/${visitor}`
  let all = []
  let upTo = 0
  let seen = new Set()
  const created = await createPosition(mine)
  const position = writer(carriage.url(mine), { contentType: "application/json" })
  const moveTo = (n, ...more) => position.append({ upTo: n, seen: [...seen, ...more].filter((one) => one > n).slice(-SHOWN) }).catch(() => {})
  if (created) await moveTo(await lastNumber(streams.notices))

  const isUnread = ({ n }) => n > upTo && !seen.has(n)
  const draw = () => {
    const unread = all.filter(isUnread).length
    const words = unread ? `${unread} unread notification${unread === 1 ? "" : "s"}` : "no unread notifications"
    bell.bell.dataset.unread = unread
    bell.unread.textContent = unread > 99 ? "99+" : unread
    bell.unread.hidden = !unread
    if (bell["unread-words"].textContent !== words) bell["unread-words"].textContent = words
    parts.read.disabled = !unread
    document.title = `${unread ? `(${unread}) ` : ""}Fourfold: four scenarios`
    const items = all.slice(-SHOWN).reverse().map(item)
    parts.notes.replaceChildren(...(items.length ? items : [el("li", { className: "empty", textContent: "Nothing yet. Let a passer-by write, or run a task." })]))
  }
  const item = (note) => {
    const who = note.kind === "chat" ? `${note.from || "Somebody"} in ${note.room}` : "Task"
    const element = el("li", {}, el("b", { textContent: who }), el("time", { textContent: clock(note.at) }), el("p", { textContent: note.text }))
    element.classList.toggle("unread", isUnread(note))
    element.dataset.n = note.n
    return element
  }
  /** What is told by the room that is on the screen needs no bell. */
  const look = () => {
    const looked = all.filter((note) => isUnread(note) && note.kind === "chat" && chat.looksAt(note.room)).map(({ n }) => n)
    if (looked.length) moveTo(upTo, ...looked)
  }
  let due
  const soon = () => {
    due ??= setTimeout(() => {
      due = undefined
      look()
      draw()
    }, 30)
  }

  await carriage.follow(mine, {
    onRecord(record) {
      upTo = Math.max(upTo, record.upTo ?? 0)
      for (const n of record.seen ?? []) seen.add(n)
      seen = new Set([...seen].filter((n) => n > upTo))
      soon()
    },
  })
  await carriage.follow(streams.notices, {
    leads: true,
    onRecord(note) {
      if (!Number.isFinite(note?.n) || note.by === visitor) return
      all = all.concat(note).slice(-500)
      soon()
    },
  })
  parts.read.addEventListener("click", () => moveTo(Math.max(upTo, ...all.map(({ n }) => n))))
  parts.small.addEventListener("click", () => begin(16, parts.answer))
  const passers = new Map()
  parts.passer.addEventListener("click", () => {
    const others = streams.rooms.filter(({ name }) => name !== chat.current())
    const { stream } = others[Math.floor(Math.random() * others.length)]
    if (!passers.has(stream)) passers.set(stream, writer(carriage.url(stream), { contentType: "application/json" }))
    const text = PASSERS_BY[Math.floor(Math.random() * PASSERS_BY.length)]
    passers.get(stream).append({ id: random(), by: "passer-by", from: "A passer-by", text, at: Date.now() }).catch(() => {})
  })
  document.addEventListener("visibilitychange", soon)
  draw()
  return { look: soon }
}

/** True if it was not there: a new visitor has read everything that happened before. */
async function createPosition(stream) {
  const headers = { "Content-Type": "application/json", "Stream-TTL": "604800", "Stream-Retention-Records": "100" }
  const answer = await fetch(`/v1/stream/${stream}`, { method: "PUT", headers })
  if (!answer.ok && answer.status !== 409) throw Error("the read position cannot be kept")
  return answer.status === 201
}

async function lastNumber(stream) {
  const answer = await fetch(`/v1/stream/${stream}?offset=-1`)
  const records = answer.ok ? await answer.json() : []
  return records.at(-1)?.n ?? 0
}
