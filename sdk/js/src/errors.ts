/** What an iteration throws: a {@link Refused} by the server, or a {@link GapError} that nobody listens to. */

import type { Gap, Problem } from "./types.js";

/** The server refuses, and trying again would not help. */
export class Refused extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.detail || problem.title || problem.code);
    this.name = "Refused";
    this.problem = problem;
  }
}

/** Retention has dropped records that this reader wanted. With `onGap`, or a listener to `gap`, it goes on instead. */
export class GapError extends Refused {
  readonly gap: Gap;

  constructor(gap: Gap) {
    super({ status: 410, code: "offset-trimmed", title: `the records from ${gap.from} to ${gap.to} are gone`, oldestOffset: gap.to });
    this.name = "GapError";
    this.gap = gap;
  }
}
