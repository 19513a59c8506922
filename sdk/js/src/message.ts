/**
 * The one message in which WebSocket, both polls and (nearly) SSE bring records. Nothing moves a reader but a body that
 * parses whole as one, and that can be the answer to what this reader asked.
 */

import type { Batch, Ending, Gap } from "./types.js";

/**
 * A batch or a goodbye; undefined if the text is neither, or not meant for a reader at `from`. Over SSE the records and the
 * gap came before it.
 */
export function message(text: string, from: string, records: unknown[] = [], told?: Gap): Batch | Ending | undefined {
  const it = parsed(text);
  if (!it) return;
  const to = it.streamNextOffset;
  if (typeof to !== "string") return;
  if (it.goodbye) return { why: "goodbye", code: `${it.goodbye.code}`, afterMs: +it.goodbye.reconnectAfterMs || 0 };
  const gap = it.gap || told;
  // An answer that stood in a cache, or one to somebody else, would lead back.
  if (!gap && isToken(from) && (to < from || to.length !== from.length)) return;
  return {
    from,
    to,
    records: it.records || records,
    upToDate: !!it.upToDate,
    closed: !!it.streamClosed,
    size: text.length,
    gap,
  };
}

/** Not one of the names `-1` and `now`. */
export function isToken(offset: string): boolean {
  return offset.length > 3;
}

/** The object that the text is, if it is one. */
export function parsed(text: string): Record<string, any> | undefined {
  try {
    const it = JSON.parse(text);
    return it && typeof it === "object" ? it : undefined;
  } catch {
    return;
  }
}
