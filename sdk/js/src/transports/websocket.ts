/** Reads by WebSocket. Refusals come before the upgrade, where a page cannot see them: they look like a cut. */

import { withQuery } from "../http.js";
import { message, parsed } from "../message.js";
import { sockets } from "../sockets.js";
import type { Carrier } from "../types.js";
import { HEARTBEAT_SECONDS, SILENCE_MS, whenReady } from "./pulse.js";

export const websocket: Carrier = (target, from, sink) => {
  const Socket = target.WebSocket || (typeof WebSocket === "function" ? WebSocket : undefined);
  let at = from;
  let socket: WebSocket | undefined;
  const stop = () => {
    if (!socket) return;
    socket.onmessage = socket.onclose = socket.onerror = null;
    // An error of a socket that was closed while it connected must have a listener in Node.
    socket.onerror = () => {};
    socket.close();
    socket = undefined;
  };
  if (!Socket) {
    sink.ended({ why: "unsupported" });
    return { stop };
  }
  const cancel = whenReady(target, sink, ({ token }) => {
    const query = `offset=${at}&heartbeat=${HEARTBEAT_SECONDS}${token ? `&token=${encodeURIComponent(token)}` : ""}`;
    const end = () => {
      stop();
      sink.ended({ why: "cut" });
    };
    try {
      socket = new Socket(withQuery(target.url.replace(/^http/, "ws"), query));
    } catch {
      return end();
    }
    socket.onclose = socket.onerror = end;
    socket.onmessage = (event) => {
      const it = message(event.data, at);
      if (!it) {
        // What has an id answers a writer.
        if (!("id" in (parsed(event.data) || {}))) end();
        return;
      }
      if ("why" in it) {
        stop();
        return sink.ended(it);
      }
      at = it.to;
      sockets[target.identity] = socket;
      sink.alive(SILENCE_MS);
      sink.batch(it);
    };
  });
  return {
    stop() {
      cancel();
      stop();
    },
  };
};
