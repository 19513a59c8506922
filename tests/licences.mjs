// Every dependency has a licence that deny.toml allows. For machines without cargo-deny; the list is the same.
import { execFileSync } from "node:child_process"
import { readFileSync } from "node:fs"

const deny = readFileSync(new URL("../deny.toml", import.meta.url), "utf8")
const list = deny.match(/allow = \[([^\]]*)\]/)[1]
const allowed = new Set([...list.matchAll(/"([^"]+)"/g)].map((match) => match[1]))
const exceptions = new Map([...deny.matchAll(/crate = "([^"]+)", allow = \["([^"]+)"\]/g)].map(([, crate, licence]) => [crate, licence]))

// "MIT OR (Apache-2.0 AND ISC)": one alternative must be allowed in all its parts. Old crates write "/" for OR.
function fits(expression) {
  const text = expression.replaceAll("/", " OR ").trim()
  const top = (word) => {
    const parts = []
    let depth = 0
    let start = 0
    for (let at = 0; at < text.length; at++) {
      if (text[at] === "(") depth++
      if (text[at] === ")") depth--
      if (depth === 0 && text.startsWith(` ${word} `, at)) {
        parts.push(text.slice(start, at))
        start = at + word.length + 2
      }
    }
    return [...parts, text.slice(start)]
  }
  const either = top("OR")
  if (either.length > 1) return either.some(fits)
  const all = top("AND")
  if (all.length > 1) return all.every(fits)
  if (text.startsWith("(") && text.endsWith(")")) return fits(text.slice(1, -1))
  return allowed.has(text)
}

const metadata = JSON.parse(execFileSync("cargo", ["metadata", "--format-version", "1", "--locked"], { maxBuffer: 1 << 28 }))
const members = new Set(metadata.workspace_members)
const others = metadata.packages.filter((crate) => !members.has(crate.id))
const refused = others.filter((crate) => !crate.license || (exceptions.get(crate.name) !== crate.license && !fits(crate.license)))
for (const crate of refused) console.error(`${crate.name} ${crate.version}: licence '${crate.license}' is not in deny.toml`)
console.log(`licences: ${others.length - refused.length} of ${others.length} dependencies are allowed`)
process.exit(refused.length ? 1 : 0)
