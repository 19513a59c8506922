// The open protocol's own client, as it is published, works against the server.
import assert from "node:assert/strict"
import { after, before, test } from "node:test"
import { DurableStream, IdempotentProducer, stream } from "@durable-streams/client"

import { Server } from "./server.mjs"

const LIMIT = { timeout: 30_000 }
let server
before(async () => (server = await Server.start()))
after(() => server?.stop())

const create = (name) => DurableStream.create({ url: `${server.url}/v1/stream/official/${name}`, contentType: "application/json" })
const numbers = (count, from = 0) => Array.from({ length: count }, (_, step) => ({ n: from + step, text: "𝄞\r\n" }))

async function gathered(response) {
  const items = []
  for await (const item of response.jsonStream()) items.push(item)
  return items
}

test("it appends and catches up", LIMIT, async () => {
  const handle = await create("catch-up")
  for (const record of numbers(5)) await handle.append(JSON.stringify(record))
  const answer = await stream({ url: handle.url, offset: "-1", live: false })
  assert.deepEqual(await answer.json(), numbers(5))

  await handle.append(JSON.stringify(numbers(1, 5)[0]))
  const more = await stream({ url: handle.url, offset: answer.offset, live: false })
  assert.deepEqual(await more.json(), numbers(1, 5), "goes on from an offset")
})

for (const live of ["long-poll", "sse", true]) {
  test(`it follows live by ${live === true ? "what it chooses" : live} until the end`, LIMIT, async () => {
    const handle = await create(`live-${live}`)
    const producer = new IdempotentProducer(handle, "official", { autoClaim: true, onError: (error) => assert.fail(error) })
    producer.append(JSON.stringify(numbers(1)[0]))
    await producer.flush()

    const reading = gathered(await stream({ url: handle.url, offset: "-1", live }))
    for (const record of numbers(40, 1)) {
      producer.append(JSON.stringify(record))
      if (record.n % 10 === 0) await producer.flush()
    }
    await producer.flush()
    await handle.close()
    assert.deepEqual(await reading, numbers(41))
  })
}
