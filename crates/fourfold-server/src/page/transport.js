// The four transports, by the ids that the page and its tests use.
//
// Each is one function `read(stream, offset, sink)` that starts to read and returns how to stop. It tells the
// sink what happens, and after `closed`, `goodbye` or `failed` nothing more:
//
//   asked()                          a request was made
//   connecting() live() waiting()    how the transport stands; `waiting` is the pause between two short polls
//   delivered(records, offset, text) records (perhaps none), the offset after them, the payload they came in
//   gap(from, to)                    retention dropped what lay between
//   closed(why)                      nothing will follow
//   goodbye(ms, code)                the server ends it, and says why: come back after so many milliseconds
//   failed(problem)                  it broke: the sink decides whether and when to go on

import { readLongPoll } from "./long_poll.js";
import { readShortPoll } from "./short_poll.js";
import { readSse } from "./sse.js";
import { readWebSocket } from "./websocket.js";

export const TRANSPORTS = {
  websocket: { label: "WebSocket", about: "One connection. Each batch of records is pushed as one message.", read: readWebSocket },
  sse: { label: "SSE", about: "One endless answer. The browser itself resumes from the last id.", read: readSse },
  "long-poll": { label: "Long poll", about: "Each request waits at the server until there is something new.", read: readLongPoll },
  "short-poll": { label: "Short poll", about: "Plain requests, as often as the server advises. A 304 if nothing is new.", read: readShortPoll },
};
