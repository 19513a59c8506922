/** The WebSockets that the readers of this page hold, over which a writer of the same stream may append. */

import { parsed } from "./message.js";

/** What a reader holds and has proven, by the identity of its target. */
export const sockets: Record<string, WebSocket | undefined> = {};

let asked = 0;

/** Not to be asked any more. */
export function dropSocket(identity: string, socket: WebSocket): void {
  if (sockets[identity] === socket) delete sockets[identity];
}

/**
 * Sends a message, given without its id and its first brace. `done` gets the server's answer to it, or nothing if the socket
 * ends before. The returned function stops listening; a socket that has not answered by then is not asked again.
 */
export function askSocket(identity: string, message: string, done: (answer?: Record<string, any>) => void): () => void {
  const socket = sockets[identity]!;
  const id = ++asked;
  let answered = false;
  const hear = ({ type, data }: { type: string; data?: string }) => {
    // Records come here too: parsed is only what may be the answer.
    const it = type !== "message" || (/"(ack|error)":/.test(data!) && parsed(data!));
    if (it === true) done();
    else if (it && it.id === id) {
      answered = true;
      done(it);
    }
  };
  const events = ["message", "close"];
  for (const event of events) socket.addEventListener(event, hear as () => void);
  socket.send(`{"id":${id},${message}`);
  return () => {
    for (const event of events) socket.removeEventListener(event, hear as () => void);
    if (!answered) dropSocket(identity, socket);
  };
}
