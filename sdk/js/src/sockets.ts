/** The WebSockets that the readers of this page hold, over which a writer of the same stream may append. */

import { parsed } from "./message.js";

/** What a reader holds and has proven, by the identity of its target. */
export const sockets = new Map<string, WebSocket>();

/** Those that have swallowed a message: never asked again. */
const mute = new WeakSet<WebSocket>();

let asked = 0;

/** A socket of this identity that can be asked now. */
export function openSocket(identity: string): WebSocket | undefined {
  const socket = sockets.get(identity);
  return socket && socket.readyState === 1 && !mute.has(socket) ? socket : undefined;
}

/**
 * Sends a message, given without its id and its first brace. `done` gets the server's answer to it; nothing if the socket
 * ends before, or says nothing about it for `ms`. The returned function gives up.
 */
export function askSocket(socket: WebSocket, message: string, ms: number, done: (answer: any) => void): () => void {
  const id = ++asked;
  const end = (answer?: unknown) => {
    clearTimeout(timer);
    socket.removeEventListener("message", hear);
    socket.removeEventListener("close", gone);
    done(answer || {});
  };
  const gone = () => end();
  const hear = ({ data }: MessageEvent) => {
    // Records come here too: parsed is only what may be the answer.
    const it = /"(ack|error)":/.test(data) && parsed(data);
    if (it && it.id === id) end(it);
  };
  const timer = setTimeout(() => {
    mute.add(socket);
    end();
  }, ms);
  socket.addEventListener("message", hear);
  socket.addEventListener("close", gone);
  socket.send(`{"id":${id},${message}`);
  return gone;
}
