/** Reads by WebSocket. A token goes among the subprotocols, since a URL ends up in logs. Refusals come before the upgrade, where a page cannot see them: they look like a cut. */

import { withQuery } from "../http.js";
import { sockets } from "../sockets.js";
import type { Carrier } from "../types.js";
import { HEARTBEAT_SECONDS } from "./pulse.js";

export const websocket: Carrier = (target, from, sink, token) => {
  const Socket = target.WebSocket || (typeof WebSocket === "function" ? WebSocket : undefined);
  if (!Socket) {
    sink.ended({ why: "unsupported" });
    return { stop() {} };
  }
  const socket = new Socket(withQuery(target.url.replace(/^http/, "ws"), `offset=${from}&heartbeat=${HEARTBEAT_SECONDS}`), token ? ["fourfold", "fourfold.token." + token] : []);
  socket.onclose = socket.onerror = () => sink.ended({ why: "cut" });
  socket.onmessage = ({ data }) => {
    // What has an id answers a writer.
    if (!/^{"id":/.test(data) && sink.said(data)) sockets[target.identity] = socket;
  };
  return {
    stop() {
      socket.onmessage = socket.onclose = null;
      // An error of a socket that was closed while it connected must have a listener in Node.
      socket.onerror = () => {};
      socket.close();
    },
  };
};
