/** Keeps the offset over reloads. */

import type { Memory } from "./types.js";

/** Under a key of `localStorage`, or as the application does; where there is no storage nothing is kept. */
export function memoryOf(remember: string | Memory | undefined): Memory | undefined {
  if (typeof remember !== "string") return remember;
  return {
    load: () => stored(remember),
    save: (offset) => void stored(remember, offset),
  };
}

/** What `localStorage` has under `key`, where there is one; given a value, what it has is that. */
export function stored(key: string, value?: string): string | null | undefined {
  try {
    const old = localStorage.getItem(key);
    if (value && value !== old) localStorage.setItem(key, value);
    return old;
  } catch {
    // Full, or not allowed: as if nothing had been kept.
    return;
  }
}
