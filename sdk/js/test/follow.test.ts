import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { follow, Refused } from "../src/index.js";
import type { Transport } from "../src/index.js";
import { Server } from "./server.js";

let server: Server;
before(async () => {
  server = await Server.start();
});
after(() => server.end());

const TRANSPORTS: Transport[] = ["websocket", "sse", "long-poll", "short-poll"];

for (const transport of TRANSPORTS) {
  test(`${transport} brings what is there and what comes, and ends with the stream`, async () => {
    const name = `plain/${transport}`;
    const url = await server.create(name);
    await server.append(name, [1, 2, 3]);
    const got: unknown[] = [];
    const following = follow(url, { transports: [transport] });
    for await (const record of following) {
      got.push(record);
      if (got.length === 3) {
        assert.deepEqual(following.state, { name: "live", transport });
        await server.append(name, [4, [5], { six: 6 }]);
        await server.append(name, ["seven"]);
        await server.close(name);
      }
    }
    assert.deepEqual(got, [1, 2, 3, 4, [5], { six: 6 }, "seven"]);
    assert.deepEqual(following.state, { name: "closed" });
  });

  test(`${transport} keeps the bounds of text records and of bytes`, async () => {
    for (const [type, records, expected] of [
      ["text/plain", ["[1]", "a\nb", " ü\u2028"], ["[1]", "a\nb", " ü\u2028"]],
      ["application/octet-stream", ["a", "bc"], ["YQ==", "YmM="]],
    ] as const) {
      const name = `bounds/${transport}/${type}`;
      const url = await server.create(name, type);
      for (const record of records) await server.append(name, [record], type);
      await server.close(name);
      const got: unknown[] = [];
      for await (const record of follow(url, { transports: [transport] })) got.push(record);
      assert.deepEqual(got, expected);
    }
  });

  test(`${transport} refused: the iteration throws`, async () => {
    const following = follow(server.url(`missing/${transport}`), { transports: [transport] });
    await assert.rejects(
      async () => {
        for await (const _ of following);
      },
      (error) => error instanceof Refused && error.problem.code === "stream-not-found" && error.problem.status === 404,
    );
  });
}
