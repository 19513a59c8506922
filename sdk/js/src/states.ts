/** What each event means in each state. The compiler checks that no pair is missing. */

import type { State } from "./types.js";

export type StateName = State["name"];

/**
 * What happens to a reader: a connection begins; a batch comes that ends before the tail, or at it; nothing works, so it
 * waits; the stream's end was read; the server refuses.
 */
export type Happening = "begin" | "behind" | "tail" | "wait" | "end" | "refuse";

/** Stays for ever. */
const final = <Name extends StateName>(name: Name): Record<Happening, StateName> => ({
  begin: name,
  behind: name,
  tail: name,
  wait: name,
  end: name,
  refuse: name,
});

/** What happens alike in each state that is not final. */
const open = { behind: "catching up", tail: "live", wait: "waiting", end: "closed", refuse: "refused" } as const;

export const NEXT: Record<StateName, Record<Happening, StateName>> = {
  connecting: { ...open, begin: "connecting" },
  // It had the tail; what comes until it has it again is late.
  live: { ...open, begin: "catching up" },
  "catching up": { ...open, begin: "catching up" },
  waiting: { ...open, begin: "connecting" },
  closed: final("closed"),
  refused: final("refused"),
};
