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
//   goodbye(ms)                      the server drains: come back after so many milliseconds
//   failed(problem)                  it broke: the sink decides whether and when to go on

import { readLongPoll } from "./long_poll.js";
import { readShortPoll } from "./short_poll.js";
import { readSse } from "./sse.js";
import { readWebSocket } from "./websocket.js";

export const TRANSPORTS = {
  websocket: { label: "WebSocket", tab: "WebSocket", about: "One socket, pushed as it happens", read: readWebSocket },
  sse: { label: "Server-Sent Events", tab: "SSE", about: "One answer without end", read: readSse },
  "long-poll": { label: "Long poll", tab: "Long poll", about: "Each request waits for news", read: readLongPoll },
  "short-poll": { label: "Short poll", tab: "Short poll", about: "Asks when the server advises", read: readShortPoll },
};
