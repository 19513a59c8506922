// WebSocket: one connection, one JSON message for each batch of records. Nothing but `WebSocket`.

import { Problem, asProblem, askWhy } from "./problem.js";
import { token } from "./token.js";

const STREAM_DELETED = 4404;

export function readWebSocket(stream, offset, sink) {
  const protocols = token() === "" ? [] : ["fourfold", `fourfold.token.${token()}`]; // a WebSocket has no headers
  const socket = new WebSocket(`${stream.socketUrl}?${new URLSearchParams({ offset })}`, protocols);
  const over = new AbortController();
  let at = offset;
  let told = null; // the goodbye, which outranks the close code that follows it
  let opened = false;
  const stop = () => {
    over.abort();
    socket.close();
  };

  sink.asked();
  socket.onopen = () => {
    opened = true;
    sink.live();
  };
  socket.onmessage = ({ data }) => {
    const message = parsed(data, sink, stop);
    if (message === undefined) return;
    if (typeof message.streamNextOffset === "string") at = message.streamNextOffset;
    if (message.gap) sink.gap(message.gap.from, message.gap.to);
    if (message.goodbye) told = message.goodbye;
    sink.delivered(message.records ?? [], at, data);
    if (!message.streamClosed) return;
    socket.close();
    sink.closed("the stream is closed");
  };
  socket.onclose = async ({ code, reason }) => {
    if (told?.code === "stream-deleted" || code === STREAM_DELETED) return sink.closed("the stream was deleted");
    if (told) return sink.goodbye(told.reconnectAfterMs, told.code);
    const why = opened ? null : await askWhy(stream, at, over.signal);
    sink.failed(why ?? new Problem({ code: reason || "cut", detail: `the socket closed (${code}${reason && ` ${reason}`})` }));
  };

  return stop;
}

// A message that cannot be read may hold records: to read on behind it would lose them without a word.
function parsed(data, sink, stop) {
  try {
    return JSON.parse(data);
  } catch (error) {
    sink.failed(asProblem(error));
    stop();
    return undefined;
  }
}
