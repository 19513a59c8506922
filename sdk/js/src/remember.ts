/** Keeps the offset over reloads. */

import type { Memory } from "./types.js";

/** Under a key of `localStorage`, or as the application does; where there is no storage nothing is kept. */
export function memoryOf(remember: string | Memory | undefined): Memory | undefined {
  if (typeof remember !== "string") return remember;
  return {
    load() {
      try {
        return localStorage.getItem(remember);
      } catch {
        return null;
      }
    },
    save(offset) {
      try {
        localStorage.setItem(remember, offset);
      } catch {
        // Full, or not allowed: the next page begins where this one did.
      }
    },
  };
}
