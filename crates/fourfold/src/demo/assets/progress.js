// Scenario 1: heavy tasks. Each has a stream of its own, which ends with its result; a list of them is a stream, too.
import { bytes, clock, el, slots } from "./dom.js"

const SHOWN = 3
const OLD_MS = 3_500_000 // The server forgets them after an hour.

export async function progress(carriage, { streams }) {
  const parts = slots(document.getElementById("progress"))
  const shown = []
  parts.start.addEventListener("submit", (event) => {
    event.preventDefault()
    begin(Number(new FormData(parts.start).get("megabytes")), parts.answer)
  })
  parts.tasks.append(el("li", { className: "empty", textContent: "No task in the last hour. Start one." }))
  await carriage.follow(streams.tasks, {
    leads: true,
    onRecord(entry) {
      if (!entry.task || entry.at < Date.now() - OLD_MS) return
      parts.tasks.querySelector(".empty")?.remove()
      const task = card(entry)
      parts.tasks.prepend(task.element)
      shown.unshift(entry.stream)
      carriage.follow(entry.stream, {
        leads: true,
        onRecord: (record) => task.update(record),
        onEnd: () => carriage.lead(streams.tasks),
      })
      if (shown.length > SHOWN) {
        carriage.leave(shown.pop())
        parts.tasks.lastElementChild.remove()
      }
    },
  })
}

/** Asks for a task; says why not. */
export async function begin(megabytes, answer) {
  answer.textContent = ""
  try {
    const reply = await fetch("/demo/tasks", { method: "POST", body: JSON.stringify({ megabytes }) })
    const told = await reply.json()
    if (!reply.ok) answer.textContent = told.detail ?? told.title
  } catch {
    answer.textContent = "the server cannot be reached"
  }
}

function card({ task, megabytes, at }) {
  const bar = el("progress", { max: 1, value: 0 })
  bar.setAttribute("aria-label", `Task ${task}`)
  const percent = el("b", { textContent: "0 %" })
  const detail = el("span", { className: "detail", textContent: "starting" })
  const element = el(
    "li",
    { className: "task" },
    el("span", { className: "task-name", textContent: `${megabytes} MB` }),
    el("span", { className: "detail", textContent: `${task} · ${clock(at)}` }),
    percent,
    bar,
    detail,
  )
  element.dataset.task = task
  return {
    element,
    update(record) {
      if (record.failed) {
        element.dataset.ended = "failed"
        percent.textContent = "failed"
        detail.textContent = record.failed
        return
      }
      bar.value = record.progress
      percent.textContent = `${Math.floor(record.progress * 100)} %`
      element.dataset.progress = record.progress
      if (record.result) {
        const { sha256, compressedBytes, seconds, bytes: size } = record.result
        element.dataset.ended = "done"
        detail.replaceChildren(
          `${((100 * compressedBytes) / size).toFixed(1)} % of its size, ${seconds.toFixed(1)} s · SHA-256 `,
          el("code", { textContent: `${sha256.slice(0, 16)}…`, title: sha256 }),
        )
      } else {
        const what = record.phase === "making" ? "making the file" : "hashing and packing"
        detail.textContent = `${what} · ${bytes(record.bytes)} · ${record.mbPerSecond < 10 ? record.mbPerSecond : Math.round(record.mbPerSecond)} MB/s`
      }
    },
  }
}
