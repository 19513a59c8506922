// Short poll: plain requests, as often as the server advises, and a 304 while nothing is new. Nothing but `fetch`.

import { asProblem, problemIn } from "./problem.js";
import { pause } from "./pause.js";
import { ask } from "./token.js";

const NO_ADVICE_MS = 1000;

export function readShortPoll(stream, offset, sink) {
  const over = new AbortController();
  loop(stream, offset, sink, over.signal).catch((error) => sink.failed(asProblem(error)));
  return () => over.abort();
}

async function loop(stream, offset, sink, signal) {
  let etag = null;
  for (;;) {
    sink.asked();
    const headers = etag === null ? {} : { "If-None-Match": etag };
    const query = new URLSearchParams({ offset });
    const answer = await ask(`${stream.url}?${query}`, { headers, cache: "no-store", signal });
    if (!answer.ok && answer.status !== 304) throw await problemIn(answer);
    offset = answer.headers.get("stream-next-offset") ?? offset;
    etag = answer.headers.get("etag");
    const text = answer.status === 304 ? "" : await answer.text();
    sink.delivered(stream.recordsIn(text), offset, text);
    if (answer.headers.get("stream-closed") === "true") return sink.closed("the stream is closed");
    if (answer.headers.get("stream-up-to-date") !== "true") continue;

    sink.waiting();
    await pause(Number(answer.headers.get("stream-poll-after") ?? NO_ADVICE_MS), signal);
  }
}
