// Server-Sent Events: one answer without end. Nothing but `EventSource`, which by itself comes back from the
// last id it saw when its connection is cut.

import { Problem, asProblem, askWhy } from "./problem.js";
import { token } from "./token.js";

export function readSse(stream, offset, sink) {
  const query = new URLSearchParams({ live: "sse", offset });
  if (token() !== "") query.set("access_token", token()); // an EventSource has no headers
  const source = new EventSource(`${stream.url}?${query}`);
  const over = new AbortController();
  let at = offset;
  const stop = () => {
    over.abort();
    source.close();
  };

  // An event that cannot be read may hold records: to read on behind it would lose them without a word.
  const on = (name, hear) =>
    source.addEventListener(name, (event) => {
      try {
        hear(event);
      } catch (error) {
        sink.failed(asProblem(error));
        stop();
      }
    });

  source.onopen = () => {
    sink.asked();
    sink.live();
  };
  on("data", ({ data, lastEventId }) => {
    at = lastEventId;
    sink.delivered(stream.isJson ? JSON.parse(data) : [data], at, data); // else one record an event
  });
  on("control", ({ data }) => {
    const control = JSON.parse(data);
    at = control.streamNextOffset;
    sink.delivered([], at, data);
    if (!control.streamClosed) return;
    source.close(); // or it would come back for ever, to be told the same
    sink.closed("the stream is closed");
  });
  on("gap", ({ data }) => {
    const { gap } = JSON.parse(data);
    at = gap.to;
    sink.gap(gap.from, gap.to);
  });
  on("goodbye", ({ data }) => {
    if (JSON.parse(data).goodbye.code !== "stream-deleted") return; // the `retry:` with it says when to come back
    source.close();
    sink.closed("the stream was deleted");
  });
  source.onerror = async () => {
    if (source.readyState === EventSource.CONNECTING) return sink.connecting();
    sink.asked();
    const why = await askWhy(stream, at, over.signal);
    const hint = token() === "" ? "" : ", perhaps since a token in a URL is not taken (“query” in [access])";
    sink.failed(why ?? new Problem({ code: "refused", detail: `the event stream was refused${hint}` }));
  };

  return stop;
}
