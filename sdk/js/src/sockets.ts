/** The WebSockets that the readers of this page hold, over which a writer of the same stream may append. */

import { parsed } from "./message.js";

/** `deaf`: it has swallowed a message. */
type Held = WebSocket & { deaf?: boolean };

/** The last that brought something, by the identity of its reader's target. */
export const sockets: Record<string, Held | undefined> = {};

let asked = 0;

/** What can be asked now. */
export function openSocket(identity: string): Held | undefined {
  const socket = sockets[identity];
  return socket && socket.readyState === 1 && !socket.deaf ? socket : undefined;
}

/**
 * Sends a message, given without its id and its first brace. `done` gets the server's answer to it, or nothing if the socket
 * ends before. The returned function stops listening; a socket that has not answered by then is not asked again.
 */
export function askSocket(socket: Held, message: string, done: (answer?: Record<string, any>) => void): () => void {
  const id = ++asked;
  const hear = ({ data }: { data?: string }) => {
    // Records come here too: parsed is only what may be the answer. A close has no data.
    const it = !data || (/"(ack|error)":/.test(data) && parsed(data));
    if (it === true) done();
    else if (it && it.id === id) {
      socket.deaf = false;
      done(it);
    }
  };
  const events = ["message", "close"];
  socket.deaf = true;
  for (const event of events) socket.addEventListener(event, hear as () => void);
  socket.send(`{"id":${id},${message}`);
  return () => {
    for (const event of events) socket.removeEventListener(event, hear as () => void);
  };
}
