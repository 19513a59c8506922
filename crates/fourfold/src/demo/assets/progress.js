// Scenario 1: heavy tasks. Each is a call: the server runs a program, and what it tells is a stream that ends with its result. The list of
// calls says which there are and how they ended, whoever began them and in whichever tab.
import { bytes, clock, el, slots } from "./dom.js"

const SHOWN = 3
const LOOK_MS = 1_000
let call = ""
let look = () => {}

export async function progress(carriage, { name }) {
  call = name
  const parts = slots(document.getElementById("progress"))
  const cards = new Map() // by stream
  parts.start.addEventListener("submit", (event) => {
    event.preventDefault()
    begin(Number(new FormData(parts.start).get("megabytes")), parts.answer)
  })
  const empty = el("li", { className: "empty", textContent: "No task in the last hour. Start one." })
  parts.tasks.append(empty)
  let looking = Promise.resolve()
  look = () => (looking = looking.then(() => show().catch(() => {}))) // One after the other, or an old answer comes last.
  async function show() {
    const { calls } = await (await fetch(`/v1/calls?name=${call}&limit=${SHOWN}`, { cache: "no-store" })).json()
    empty.hidden = calls.length > 0
    for (const state of calls.toReversed()) {
      const stream = state.stream.replace("/v1/stream/", "")
      if (!cards.has(stream)) {
        const task = card(state)
        cards.set(stream, task)
        parts.tasks.prepend(task.element)
        // Read before the next look, so that the list never runs ahead of the panel.
        await carriage.follow(stream, { leads: true, onRecord: (record) => task.update(record) })
      }
      cards.get(stream).state(state)
    }
    for (const [stream, { element }] of [...cards].slice(0, -SHOWN)) {
      carriage.leave(stream)
      cards.delete(stream)
      element.remove()
    }
  }
  setInterval(() => document.hidden || look(), LOOK_MS)
  document.addEventListener("visibilitychange", () => document.hidden || look())
  await look()
}

/** Begins a task; says why not. */
export async function begin(megabytes, answer) {
  answer.textContent = ""
  try {
    const headers = { "Content-Type": "application/json" }
    const reply = await fetch(`/v1/call/${call}`, { method: "POST", headers, body: JSON.stringify({ megabytes }) })
    if (!reply.ok) answer.textContent = (await reply.json()).detail
    look()
  } catch {
    answer.textContent = "the server cannot be reached"
  }
}

const WHAT = { making: "making the files", packing: "hashing and packing" }

function card({ id, startedAt }) {
  const task = id.slice(-6)
  const bar = el("progress", { max: 1, value: 0 })
  bar.setAttribute("aria-label", `Task ${task}`)
  const size = el("span", { className: "task-name", textContent: "…" })
  const percent = el("b", { textContent: "0 %" })
  const detail = el("span", { className: "detail", textContent: "starting" })
  const cancel = el("button", { type: "button", textContent: "Cancel" })
  cancel.setAttribute("aria-label", `Cancel task ${task}`)
  cancel.addEventListener("click", async () => {
    cancel.disabled = true
    await fetch(`/v1/calls/${id}/cancel`, { method: "POST" }).catch(() => {})
    look()
  })
  const what = el("span", { className: "detail", textContent: `${task} · ${clock(Date.parse(startedAt))}` })
  const element = el("li", { className: "task" }, size, what, percent, cancel, bar, detail)
  element.dataset.task = id
  let stopped = false // before its result
  return {
    element,
    /** What the program has told. */
    update(record) {
      bar.value = record.progress
      if (!stopped) percent.textContent = `${Math.floor(record.progress * 100)} %`
      size.textContent = bytes(record.of)
      element.dataset.progress = record.progress
      if (record.result) {
        const { sha256, compressedBytes, seconds, bytes: all, files } = record.result
        detail.replaceChildren(
          `${files} files, ${((100 * compressedBytes) / all).toFixed(1)} % of their size, ${seconds.toFixed(1)} s · SHA-256 `,
          el("code", { textContent: `${sha256.slice(0, 16)}…`, title: sha256 }),
        )
      } else if (!element.dataset.ended) {
        const speed = record.mbPerSecond < 10 ? record.mbPerSecond : Math.round(record.mbPerSecond)
        detail.textContent = `${WHAT[record.phase]} · ${record.file} · ${speed} MB/s`
      }
    },
    /** What the server says of the call. */
    state({ state, ending }) {
      cancel.hidden = state === "ended"
      if (!ending || element.dataset.ended) return
      element.dataset.ended = ending.outcome
      stopped = ending.outcome !== "finished"
      if (!stopped) return
      percent.textContent = ending.outcome
      detail.textContent = ending.error ?? (ending.code === "asked" ? "somebody asked for it" : ending.code)
    },
  }
}
