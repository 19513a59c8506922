// Wakes a worker when records come, and checks that it was the server who woke it: node waking-a-worker.mjs http://127.0.0.1:4437
// The guide beside it explains the steps. Node 20 or newer, no packages.
import assert from "node:assert/strict"
import { createPublicKey, verify } from "node:crypto"
import { createServer } from "node:http"

const root = `${process.argv[2] ?? "http://127.0.0.1:4437"}/v1/stream`
const run = `${process.pid}-${Date.now()}`
const stream = `orders-${run}/eu`
const subscription = `${root}/__ds/subscriptions/billing-${run}`
const json = { "Content-Type": "application/json" }
const send = (method, url, body, headers = {}) =>
  fetch(url, { method, headers: { ...json, ...headers }, body: JSON.stringify(body), signal: AbortSignal.timeout(20_000) })

// 1. A worker: it answers at once, and works afterwards.
let woken
const wake = new Promise((resolve) => (woken = resolve))
const worker = createServer(async (request, response) => {
  const parts = []
  for await (const part of request) parts.push(part)
  response.writeHead(202).end()
  woken({ body: Buffer.concat(parts), signature: request.headers["webhook-signature"] })
})
await new Promise((resolve) => worker.listen(0, "127.0.0.1", resolve))

try {
  // 2. A subscription to streams that need not be there yet.
  const created = await send("PUT", subscription, {
    type: "webhook",
    pattern: `orders-${run}/*`,
    webhook: { url: `http://127.0.0.1:${worker.address().port}/` },
  })
  assert.equal(created.status, 201, await created.clone().text())
  const { webhook } = await created.json()

  // 3. Something happens.
  assert.equal((await send("PUT", `${root}/${stream}`, { order: 1 })).status, 201)

  // 4. The worker is woken. It trusts what is signed with the server's key, and is fresh.
  const { body, signature } = await wake
  const { t, kid, ed25519 } = Object.fromEntries(signature.split(",").map((part) => part.split(/=(.*)/s).slice(0, 2)))
  const { keys } = await (await fetch(webhook.signing.jwks_url)).json()
  const key = createPublicKey({ key: keys.find((one) => one.kid === kid), format: "jwk" })
  const signed = Buffer.concat([Buffer.from(`${t}.`), body])
  assert.ok(verify(null, signed, key, Buffer.from(ed25519, "base64url")), "the signature is the server's")
  assert.ok(Math.abs(Date.now() / 1000 - Number(t)) < 300, "the signature is fresh")

  // 5. It reads what is behind its cursor, and works on it.
  const task = JSON.parse(body)
  const acks = []
  for (const { path, acked_offset } of task.streams.filter((one) => one.has_pending)) {
    const read = await fetch(`${root}/${path}?offset=${acked_offset}`)
    assert.deepEqual(await read.json(), [{ order: 1 }])
    acks.push({ stream: path, offset: read.headers.get("Stream-Next-Offset") })
  }

  // 6. It says how far it came, and that it is done.
  const { wake_id, generation, callback_url, callback_token } = task
  const report = { wake_id, generation, acks, done: true }
  const bearer = { Authorization: `Bearer ${callback_token}` }
  const done = await send("POST", callback_url, report, bearer)
  assert.deepEqual(await done.json(), { ok: true, next_wake: false })

  // 7. The wake is over: nobody can act on it again.
  const again = await send("POST", callback_url, report, bearer)
  assert.equal(again.status, 409)
  assert.equal((await again.json()).code, "fenced")
  console.log(`woken for ${task.streams.length} stream, verified, acked at ${acks[0].offset}`)
} finally {
  await fetch(subscription, { method: "DELETE" })
  await fetch(`${root}/${stream}`, { method: "DELETE" })
  worker.close()
}
