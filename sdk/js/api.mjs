// Writes API.md from the doc comments of what the package exports: `npm run api`. A test fails if it is not current.
import { readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { root } from "./build.mjs"

const EXPORT = /export (type )?\{([^}]*)\} from "\.\/([\w/]+)\.js"/g

/** What `src/{entry}.ts` exports, in its order: name and the file that declares it. */
function exportsOf(entry) {
  const source = readFileSync(`${root}src/${entry}.ts`, "utf8")
  const named = [...source.matchAll(EXPORT)].flatMap(([, , names, file]) =>
    names.split(",").map((name) => ({ name: name.trim().replace(/^type /, ""), file })).filter(({ name }) => name),
  )
  const own = [...source.matchAll(/^export (?:async )?(?:function|class|interface|type|const) (\w+)/gm)]
  return [...named, ...own.map(([, name]) => ({ name, file: entry }))]
}

/** The declaration of `name` in `file`: its doc comment and its text, as the source has them. */
function declaration(name, file) {
  const lines = readFileSync(`${root}src/${file}.ts`, "utf8").split("\n")
  const heads = new RegExp(`^export (?:declare |abstract |async )*(?:function\\*?|class|interface|type|const) ${name}\\b`)
  const at = lines.findIndex((line) => heads.test(line))
  if (at < 0) throw new Error(`src/${file}.ts exports no ${name}`)
  return { comment: commentAbove(lines, at), code: code(lines, at) }
}

function commentAbove(lines, at) {
  if (!lines[at - 1]?.trim().endsWith("*/")) throw new Error(`no doc comment: ${lines[at]}`)
  let from = at - 1
  while (!lines[from].trim().startsWith("/**")) from--
  return lines.slice(from, at).map((line) => line.trim().replace(/^\/\*\* ?|\*\/$|^\* ?/g, "").trimEnd()).join("\n").trim().replace(/\{@link ([^}]+)\}/g, "`$1`")
}

/** An interface or type whole; of a function or class, what can be called. */
function code(lines, at) {
  const head = lines[at].replace(/^export /, "")
  if (/^(abstract )?class /.test(head)) return members(lines, at, head)
  const text = []
  for (let depth = 0, i = at; i < lines.length; i++) {
    const line = lines[i]
    const isFunction = /^(async )?function/.test(head)
    text.push(i === at ? head : line)
    for (const sign of line) depth += "{([".includes(sign) ? 1 : "})]".includes(sign) ? -1 : 0
    if (isFunction && depth === 1 && line.trimEnd().endsWith("{")) {
      text.push(text.pop().replace(/\s*\{$/, ""))
      break
    }
    const goesOn = /^\s*[|&]/.test(lines[i + 1] ?? "") || /[=|&,]$/.test(line.trimEnd())
    if (depth === 0 && !goesOn) break
  }
  return text.join("\n")
}

// The public members of a class, without bodies.
function members(lines, at, head) {
  const text = [head.trimEnd()]
  for (let i = at + 1; lines[i] !== "}"; i++) {
    if (/^  (\/\*\*| \*)/.test(lines[i])) text.push(lines[i])
    else if (/^  (readonly \w|get \w|\w+\(|constructor\()/.test(lines[i]) && !/^  private/.test(lines[i])) {
      text.push(lines[i].replace(/\s*\{(.*\})?\s*$/, ""))
    }
  }
  return [...text, "}"].join("\n")
}

function section(title, entry) {
  const parts = exportsOf(entry).map(({ name, file }) => {
    const { comment, code } = declaration(name, file)
    return `## ${name}\n\n${comment}\n\n\`\`\`ts\n${code}\n\`\`\`\n`
  })
  return `# \`${title}\`\n\n${parts.join("\n")}`
}

/** The whole page. */
export function reference() {
  const intro = "<!-- Made from the doc comments in src/ by `npm run api`: change them there. -->\n\n"
  return `${intro}${section("fourfold", "index")}\n${section("fourfold/react", "react")}`
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(`${root}API.md`, reference())
