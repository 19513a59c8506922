// Scenario 3: rooms. What was said is kept in the browser with the offset behind it, both in one piece: after a reload the
// client goes on exactly there.
import { writer } from "./fourfold.js"
import { clock, el, random, slots, store, stored } from "./dom.js"

const KEPT = 200
const SAVE_MS = 300
const NAMES = ["Heron", "Otter", "Wren", "Lynx", "Badger", "Swift", "Marten", "Plover"]

export async function chat(carriage, { streams, visitor, onLook }) {
  const parts = slots(document.getElementById("chat"))
  const fields = parts.say.elements
  fields.name.value = stored("fourfold-demo-name", NAMES[Number.parseInt(visitor.slice(0, 4), 16) % NAMES.length])
  fields.name.addEventListener("change", () => store("fourfold-demo-name", fields.name.value))
  const rooms = new Map()
  let current

  const show = (room) => {
    current = room.name
    store("fourfold-demo-room", current)
    room.fresh = 0
    for (const { name, button } of rooms.values()) button.setAttribute("aria-pressed", String(name === current))
    room.label()
    parts.log.replaceChildren(...room.kept.concat(room.open).map((said) => line(said, visitor)), ...room.pending.values())
    parts.log.scrollTop = parts.log.scrollHeight
    carriage.lead(room.stream)
    onLook()
  }

  for (const { name, stream } of streams.rooms) {
    const key = `fourfold-demo-room-${name}`
    const memory = stored(key, { offset: null, said: [] })
    const room = { name, stream, kept: memory.said, offset: memory.offset, open: [], pending: new Map(), fresh: 0, history: !memory.offset }
    room.button = el("button", { type: "button" })
    room.button.dataset.room = name
    room.label = () => room.button.replaceChildren(name, room.fresh ? el("span", { className: "badge", textContent: room.fresh }) : "")
    room.label()
    room.button.addEventListener("click", () => show(room))
    parts.rooms.append(room.button)
    rooms.set(name, room)
    let timer
    const save = () => {
      clearTimeout(timer)
      timer = undefined
      store(key, { offset: room.offset, said: room.kept })
    }
    addEventListener("pagehide", () => timer && save())
    await carriage.follow(stream, {
      remember: {
        load: () => room.offset,
        // Now the page has done with the records before it: they are kept together with it.
        save(offset) {
          room.offset = offset
          room.kept = room.kept.concat(room.open.splice(0)).slice(-KEPT)
          timer ??= setTimeout(save, SAVE_MS)
        },
      },
      onState(state) {
        if (state.name === "live") room.history = false // What a newcomer finds is not news.
      },
      onGap: () => room.kept.splice(0),
      onRecord(said) {
        if (typeof said?.text !== "string") return
        room.open.push(said)
        room.pending.get(said.id)?.remove()
        room.pending.delete(said.id)
        if (current === name) {
          const follows = parts.log.scrollHeight - parts.log.scrollTop - parts.log.clientHeight < 60
          const last = [...room.pending.values()][0] ?? null
          parts.log.insertBefore(line(said, visitor), last)
          while (parts.log.childElementCount > KEPT) parts.log.firstElementChild.remove()
          if (follows) parts.log.scrollTop = parts.log.scrollHeight
        } else if (!room.history) {
          room.fresh += 1
          room.label()
        }
      },
    })
  }
  show(rooms.get(stored("fourfold-demo-room")) ?? rooms.values().next().value)

  parts.say.addEventListener("submit", (event) => {
    event.preventDefault()
    const room = rooms.get(current)
    const said = { id: random(), by: visitor, from: fields.name.value.trim() || "Somebody", text: fields.text.value.trim(), at: Date.now() }
    if (!said.text) return
    fields.text.value = ""
    const item = line(said, visitor)
    item.classList.add("pending")
    room.pending.set(said.id, item)
    parts.log.append(item)
    parts.log.scrollTop = parts.log.scrollHeight
    room.writer ??= writer(carriage.url(room.stream))
    room.writer.append(said).catch((error) => {
      item.classList.add("failed")
      item.append(el("span", { className: "why", textContent: error.message }))
    })
  })

  return {
    /** Whether this tab shows the room to somebody. */
    looksAt: (room) => room === current && document.visibilityState === "visible",
    current: () => current,
  }
}

function line({ id, by, from, text, at }, visitor) {
  const item = el(
    "li",
    { className: by === visitor ? "mine" : "" },
    el("span", { className: "from", textContent: String(from ?? "Somebody").slice(0, 40) }),
    el("time", { textContent: Number.isFinite(at) ? clock(at) : "" }),
    el("p", { textContent: text.slice(0, 2_000) }),
  )
  item.dataset.id = id
  return item
}
