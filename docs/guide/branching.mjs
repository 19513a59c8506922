// node branching.mjs URL: a conversation with an model is branched; see branching.md. Needs nothing but Node 20.
import assert from "node:assert/strict"

const server = process.argv[2] ?? "http://127.0.0.1:4437"
const at = (name) => `${server}/v1/stream/${name}`
const json = { "Content-Type": "application/json" }

async function ask(name, request) {
  const answer = await fetch(at(name), request)
  if (!answer.ok) assert.fail(`${request.method} ${name}: ${answer.status} ${await answer.text()}`)
  return answer.headers.get("Stream-Next-Offset")
}

// Each message gives back the offset after it. A client keeps it with the message: it is where the conversation can be branched.
const say = (name, who, text) => ask(name, { method: "POST", headers: json, body: JSON.stringify([{ who, text }]) })

const fork = (name, from, headers = {}) => ask(name, { method: "PUT", headers: { "Stream-Forked-From": `/v1/stream/${from}`, ...headers } })

async function show(name) {
  const messages = await (await fetch(`${at(name)}?offset=-1`)).json()
  console.log(`\n${name}`)
  for (const { who, text } of messages) console.log(`  ${who}: ${text}`)
  return messages.map(({ text }) => text)
}

const chat = `chat/${Date.now()}`
const [retry, tea, undo] = ["retry", "tea", "undo"].map((branch) => `${chat}/${branch}`)

// A conversation.
await ask(chat, { method: "PUT", headers: json })
const asked = await say(chat, "user", "What shall I drink?")
const answered = await say(chat, "model", "Coffee.")
await say(chat, "user", "Why?")

// Another answer to the first question: a branch from the offset behind it.
await fork(retry, chat, { "Stream-Fork-Offset": asked })
await say(retry, "model", "Water.")
assert.deepEqual(await show(retry), ["What shall I drink?", "Water."])

// A branch from where the conversation stands, and one from that branch.
await fork(tea, chat)
await say(tea, "user", "Rather tea?")
await fork(undo, tea, { "Stream-Fork-Offset": answered })
assert.deepEqual(await show(tea), ["What shall I drink?", "Coffee.", "Why?", "Rather tea?"])
assert.deepEqual(await show(undo), ["What shall I drink?", "Coffee."])

// The first conversation goes on, and nobody else sees it.
await say(chat, "model", "It is late.")
assert.equal((await show(chat)).length, 4)
assert.equal((await show(tea)).length, 4)

// A reader who follows the conversation changes over to a branch with the offset in hand.
const rest = await fetch(`${at(retry)}?offset=${asked}`)
assert.deepEqual((await rest.json()).map(({ text }) => text), ["Water."])

// Creating a branch again finds it, so a client may simply retry.
await fork(retry, chat, { "Stream-Fork-Offset": asked })

// A browser lists the branches of a conversation.
const { streams } = await (await fetch(`${server}/v1/stream/?prefix=${chat}/`)).json()
const branches = streams.map(({ name, forkedFrom }) => `${name} from ${forkedFrom}`)
console.log(`\n${branches.join("\n")}`)
assert.deepEqual(branches, [`${retry} from ${chat}`, `${tea} from ${chat}`, `${undo} from ${tea}`])

// The first conversation is deleted. Its branches stay whole, and its name stays taken while they do.
await ask(chat, { method: "DELETE" })
assert.equal((await fetch(at(chat))).status, 410)
assert.equal((await show(tea)).length, 4)

// With the last branch everything has gone.
for (const branch of [retry, undo, tea]) await ask(branch, { method: "DELETE" })
assert.equal((await fetch(at(chat))).status, 404)
console.log("\nall as told")
