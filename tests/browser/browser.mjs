// A browser to test with: Debian's chromium, pages that keep a list of their faults, and the parts of the page.
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"

import { chromium } from "playwright-core"

export const WAIT_MS = 20_000 // for any one condition; a short poll may be told to come back after some seconds

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
]

/** A server of the test's own, and where it listens. */
export async function serve(flags) {
  const program = process.env.FOURFOLD_BIN ?? "target/debug/fourfold"
  const server = spawn(program, ["serve", "--engine", "memory", "--listen", "127.0.0.1:0", ...flags], { stdio: ["ignore", "pipe", "inherit"] })
  for await (const line of createInterface({ input: server.stdout })) {
    const url = /^listening on (\S+)$/.exec(line)?.[1]
    if (url) return { server, url }
  }
  throw new Error("the server does not say where it listens")
}

export function launch() {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium"
  return chromium.launch({ executablePath, args: FLAGS })
}

/** A page, and the faults it has had: errors on its console, uncaught ones, breaches of its security policy. */
export async function openPage(browser, url, options = {}) {
  const page = await browser.newPage({ viewport: { width: 1400, height: 900 }, ...options })
  page.setDefaultTimeout(WAIT_MS)
  const faults = []
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()))
  page.on("pageerror", (error) => faults.push(String(error)))
  await page.addInitScript(keepWhatPanelsTell)
  await page.goto(url)
  return { page, faults }
}

// In the page: window.seen[i] holds the records of panel i, in the order in which they came.
function keepWhatPanelsTell() {
  window.seen = [[], [], [], []]
  window.breaches = []
  document.addEventListener("securitypolicyviolation", (event) => window.breaches.push(event.blockedURI))
  document.addEventListener("records", ({ target, detail }) => {
    const place = [...document.querySelectorAll(".panel")].indexOf(target)
    window.seen[place]?.push(...detail.records)
  })
}

/** What the panels' attributes say, as numbers where they are numbers. */
export function panels(page) {
  return page.$$eval(".panel", (all) =>
    all.map(({ dataset }) => {
      const counts = ["records", "gaps", "lost", "doubled", "disordered"]
      const numbers = Object.fromEntries(counts.map((name) => [name, Number(dataset[name])]))
      return { ...numbers, transport: dataset.transport, state: dataset.state, offset: dataset.offset }
    }),
  )
}

/** Waits until every panel reads, and has `more` records than `before` said. */
export async function untilReading(page, before = [], more = 1) {
  const wanted = [0, 1, 2, 3].map((place) => (before[place]?.records ?? 0) + more)
  await page.waitForFunction(
    (wanted) => {
      const all = [...document.querySelectorAll(".panel")].map((panel) => panel.dataset)
      const reads = ({ state, records }, place) => ["live", "waiting"].includes(state) && Number(records) >= wanted[place]
      return all.length === 4 && all.every(reads)
    },
    wanted,
    { polling: 50 },
  )
}
