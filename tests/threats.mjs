// Every test that docs/security.md names is there, by its function or its file, and every page that it links to.
import { existsSync, readFileSync, readdirSync } from "node:fs"
import { dirname, join } from "node:path"

const page = "docs/security.md"
const text = readFileSync(page, "utf8")
const sources = readdirSync("crates", { recursive: true }).filter((path) => path.endsWith(".rs")).map((path) => join("crates", path))
const files = new Set(sources.map((path) => path.split("/").at(-1).slice(0, -3)))
const functions = new Set(sources.flatMap((path) => [...readFileSync(path, "utf8").matchAll(/\bfn (\w+)\(/g)].map((match) => match[1])))

const rows = text.split("\n").filter((line) => line.startsWith("| ") && line.split("|").length === 5)
const named = rows.flatMap((row) => [...row.split("|")[3].matchAll(/`(\w+)`/g)].map((match) => match[1]))
const links = [...text.matchAll(/\]\(([^)#:]+)/g)].map((match) => match[1])
const missing = [
  ...named.filter((name) => !functions.has(name) && !files.has(name)),
  ...links.filter((link) => !existsSync(join(dirname(page), link))),
]
if (named.length < 15) missing.push(`only ${named.length} tests are named: has the table another form?`)
if (missing.length > 0) {
  console.error(`${page} names what is not there:\n  ${missing.join("\n  ")}`)
  process.exit(1)
}
console.log(`${page}: ${named.length} tests and ${links.length} pages are there`)
