/** How a connection that is held shows life. */

/** What the server is asked for: a word after so much silence. */
export const HEARTBEAT_SECONDS = 5;

/** A connection that was silent for so long is left. To leave one that was only slow costs a request, and no record. */
export const SILENCE_MS = 9000;
