// Long poll: each request waits at the server until there is something to say. Nothing but `fetch`.

import { asProblem, problemIn } from "./problem.js";
import { pause } from "./pause.js";
import { ask } from "./token.js";

// An empty answer should have taken its time. One that did not is asked again no faster than this.
const EMPTY_ANSWER_MS = 250;

export function readLongPoll(stream, offset, sink) {
  const over = new AbortController();
  loop(stream, offset, sink, over.signal).catch((error) => sink.failed(asProblem(error)));
  return () => over.abort();
}

async function loop(stream, offset, sink, signal) {
  const query = new URLSearchParams({ live: "long-poll", offset });
  for (;;) {
    sink.asked();
    const answer = await ask(`${stream.url}?${query}`, { cache: "no-store", signal });
    if (!answer.ok) throw await problemIn(answer);
    const next = answer.headers.get("stream-next-offset");
    const text = answer.status === 204 ? "" : await answer.text();
    sink.delivered(stream.recordsIn(text), next, text);
    if (answer.headers.get("stream-closed") === "true") return sink.closed("the stream is closed");

    sink.live();
    query.set("offset", next);
    const cursor = answer.headers.get("stream-cursor");
    if (cursor === null) query.delete("cursor");
    else query.set("cursor", cursor);
    if (answer.status === 204) await pause(Number(answer.headers.get("stream-poll-after") ?? EMPTY_ANSWER_MS), signal);
  }
}
