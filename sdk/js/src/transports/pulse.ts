/** How a connection that is held shows life, and what each needs before it can begin. */

import type { Credentials, Sink, Target } from "../types.js";

/** What the server is asked for: a word after so much silence. */
export const HEARTBEAT_SECONDS = 5;

/** A connection that was silent for so long is left. To leave one that was only slow costs a request, and no record. */
export const SILENCE_MS = 9000;

/** Calls `begin` with the credentials, unless the returned function was called before. */
export function whenReady(target: Target, sink: Sink, begin: (credentials: Credentials) => void): () => void {
  let over = false;
  (async () => {
    const credentials = await target.credentials();
    if (!over) begin(credentials);
  })().catch(() => {
    if (!over) sink.ended({ why: "token" });
  });
  return () => {
    over = true;
  };
}
