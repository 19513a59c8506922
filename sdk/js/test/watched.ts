/** A follower that keeps what it got, and can be waited for. */

import { follow, type Following, type FollowOptions, type Gap, type State, type Transport } from "../src/index.js";

export class Watched {
  readonly got: unknown[] = [];
  readonly gaps: Gap[] = [];
  readonly states: State[] = [];
  readonly following: Following;
  private waiting: (() => void)[] = [];

  constructor(url: string, options: FollowOptions = {}) {
    this.following = follow(url, { share: false, ...options });
    this.following.on("record", (record) => {
      this.got.push(record);
      this.look();
    });
    this.following.on("gap", (gap) => this.gaps.push(gap));
    this.following.on("state", (state) => {
      this.states.push(state);
      this.look();
    });
  }

  private look(): void {
    for (const wake of this.waiting.splice(0)) wake();
  }

  async until(what: (state: State) => boolean): Promise<void> {
    while (!what(this.following.state)) await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  live(transport: Transport): Promise<void> {
    return this.until((state) => state.name === "live" && state.transport === transport);
  }

  all(n: number): Promise<void> {
    return this.until(() => this.got.length >= n);
  }
}

/** 0, 1, 2, … below `n`. */
export function upTo(n: number): number[] {
  return Array.from({ length: n }, (_, k) => k);
}
