// Writes docs/performance.md and docs/transports.md from the results. No figure in them is written by hand: what is not in
// target/bench/*.json is not there.
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { performance as performancePage } from "./pages/performance.mjs"
import { transports as transportsPage } from "./pages/transports.mjs"
import { ROOT } from "./servers.mjs"

const PAGES = { "performance.md": performancePage, "transports.md": transportsPage }

export function write() {
  const plots = join(ROOT, "docs/performance")
  mkdirSync(plots, { recursive: true })
  const plot = (name, svg) => {
    writeFileSync(join(plots, `${name}.svg`), svg)
    return `![${/aria-label="([^"]*)"/.exec(svg)[1]}](performance/${name}.svg)`
  }
  for (const [name, page] of Object.entries(PAGES)) {
    const text = page(plot)
    if (text) writeFileSync(join(ROOT, "docs", name), text)
  }
}
