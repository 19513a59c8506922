/**
 * The pilot: reads one stream for one page, over whatever gets through. It judges a transport by evidence alone: did the
 * first message come in time, does it show life. It falls back at once, and climbs back by running the better transport
 * beside the one at work; the records that both bring are counted, so that none comes twice and none is lost.
 *
 * All that decides where it goes on is its hand: the offset up to which it has handed records to its followers.
 */

import { ask, refusal } from "./http.js";
import { isToken, message } from "./message.js";
import { stored } from "./remember.js";
import { slot } from "./slots.js";
import { NEXT, type Happening } from "./states.js";
import { longPoll } from "./transports/long_poll.js";
import { SILENCE_MS } from "./transports/pulse.js";
import { shortPoll } from "./transports/short_poll.js";
import { sse } from "./transports/sse.js";
import { websocket } from "./transports/websocket.js";
import type { Batch, Carrier, Connection, Ending, Fed, Feed, Problem, Sink, State, Target, Transport } from "./types.js";
import { isOffline, watch } from "./weather.js";

/** The first message is due within this time; after a round in which nothing worked, twice as long. */
const PATIENCE_MS = 4000;
const PATIENCE_MS_MAX = 30_000;

const BACKOFF_MS = 250;
const BACKOFF_MS_MAX = 30_000;

/** Whoever tells a longer wait is not believed: timers have an end, too. */
const WAIT_MS_MAX = 3_600_000;

/** A transport that failed is tried again after so long, and each time after twice as long. */
const LEFT_MS = 5000;
const LEFT_MS_MAX = 300_000;

/** A connection that lived so long works: its past is forgotten. */
const STABLE_MS = 30_000;

const CARRIERS: Record<Transport, Carrier> = { websocket, sse, "long-poll": longPoll, "short-poll": shortPoll };

export const TRANSPORTS = Object.keys(CARRIERS) as Transport[];

/** A transport, and what became of it here. */
interface Way {
  name: Transport;
  failures: number;
  left: number;
  leftUntil: number;
}

/** A transport at work. */
interface Link {
  way: Way;
  /** Records that the followers have got from another link. */
  skip: number;
  /** When its first message came. */
  proven: number;
  over: boolean;
  timer?: ReturnType<typeof setTimeout>;
  connection?: Connection;
  release?: () => unknown;
  /** Its refusal was asked for. */
  asked?: boolean;
}

/** Whether it needs a slot. */
const holds = ({ way: { name } }: Link) => name === "sse" || name === "long-poll";

/** A batch that says no more than where a reader stands. */
const standing = (from: string, to: string): Batch => ({ from, to, records: [], upToDate: false, closed: false, size: 0 });

/** Reads from the offset `from` until its last follower leaves, or the stream ends; then calls `over`. */
export function reader(target: Target, from: string, transports: Transport[], over: () => void): Feed {
  const names = transports.filter((name) => CARRIERS[name]);
  const ways: Way[] = (names[0] ? names : TRANSPORTS).map((name) => ({ name, failures: 0, left: 0, leftUntil: 0 }));
  const feds: Fed[] = [];
  const key = "fourfold " + target.origin;
  let hand = from;
  let state: State = { name: "connecting", transport: ways[0]!.name };
  let main: Link | undefined;
  let candidate: Link | undefined;
  /** What is still to be tried before it waits. */
  let round: Way[] | undefined;
  let attempts = 0;
  let waiting: ReturnType<typeof setTimeout> | undefined;
  let climbing: ReturnType<typeof setTimeout> | undefined;
  let resting = false;
  /** A token was refused, and the one asked for since has not been tried. */
  let renewed = false;
  let ended = false;
  /** Until when it waited last. */
  let waited = 0;

  const happen = (event: Happening, more: { transport?: Transport; why?: string; until?: number; problem?: Problem }) => {
    const name = NEXT[state.name][event];
    if (name === state.name && event !== "wait" && more.transport === (state as { transport?: Transport }).transport) return;
    state = { name, ...more } as State;
    for (const fed of feds.slice()) fed.told(state);
  };

  /** `first`, if there is one; then the ways that are not left, then the others, each in the order given. */
  const order = (first?: Way) => {
    const rank = (way: Way) => (way === first ? 0 : way.leftUntil > Date.now() ? 2 : 1);
    return ways.slice().sort((a, b) => rank(a) - rank(b));
  };

  const again = (first?: Way) => {
    round = order(first);
    begin();
  };

  const leave = (way: Way) => {
    way.leftUntil = Date.now() + Math.min(LEFT_MS_MAX, LEFT_MS * 2 ** way.left++);
  };

  const drop = (link: Link | undefined) => {
    if (!link || link.over) return;
    link.over = true;
    clearTimeout(link.timer);
    if (link.connection) link.connection.stop();
    if (link.release) link.release();
    if (link === candidate) candidate = undefined;
    if (link === main) main = undefined;
  };

  const halt = () => {
    clearTimeout(waiting);
    clearTimeout(climbing);
    waiting = undefined;
    drop(candidate);
    drop(main);
  };

  const end = () => {
    if (ended) return;
    ended = true;
    halt();
    unwatch();
    over();
  };

  const refuse = (problem: Problem) => {
    happen("refuse", { problem });
    end();
  };

  /** Begins with the next way of the round. */
  const begin = () => {
    if (main || waiting || resting || ended || !feds.length) return;
    if (!round || !round.length) round = order();
    const it = (main = link(round.shift()!));
    happen("begin", { transport: it.way.name });
    // Whoever was told may have left.
    if (!it.over) start(it);
  };

  const wait = (why: string, afterMs: number) => {
    const now = Date.now();
    if (now - waited > STABLE_MS) attempts = 0;
    const ms = Math.max(Math.min(afterMs, WAIT_MS_MAX), Math.random() * Math.min(BACKOFF_MS_MAX, BACKOFF_MS * 2 ** attempts++));
    waited = now + ms;
    round = undefined;
    waiting = setTimeout(() => {
      waiting = undefined;
      begin();
    }, ms);
    happen("wait", { why: isOffline() ? "offline" : why, until: waited });
  };

  const link = (way: Way): Link => ({ way, skip: 0, proven: 0, over: false });

  const start = async (it: Link) => {
    const alive = (ms: number) => {
      clearTimeout(it.timer);
      if (!it.over) it.timer = setTimeout(() => lost(it, { why: "timeout" }), ms);
    };
    const gone = (ending: Ending) => it.over || lost(it, ending);
    const { name } = it.way;
    // One that is to follow a link that holds a slot takes that over.
    if (holds(it) && !(it === candidate && main!.release)) {
      const release = await slot(target.origin);
      if (!release) return gone({ why: "no slot" });
      if (it.over) return void release();
      it.release = release;
    }
    alive(Math.min(PATIENCE_MS_MAX, PATIENCE_MS * 2 ** Math.max(0, attempts - 1)));
    try {
      const { token } = await target.credentials();
      if (it.over) return;
      it.skip = 0;
      let at = hand;
      const said: Sink["said"] = (text, records, gap) => {
        const batch = it.over ? undefined : message(text, at, records, gap);
        if (!batch || "why" in batch) return void gone(batch || { why: "cut" });
        at = batch.to;
        alive(SILENCE_MS);
        got(it, batch);
        return it.over ? undefined : batch;
      };
      const connection = CARRIERS[name](target, at, { said, alive, ended: gone }, token);
      it.connection = connection;
      if (it.over) connection.stop();
    } catch {
      // The token could not be got, or what is here cannot make such a connection.
      gone({ why: "cut" });
    }
  };

  const got = (it: Link, batch: Batch) => {
    if (!it.proven) {
      if (it === candidate) {
        // It cannot be told which of the records that it skips are in the gap. The other one goes on.
        if (batch.gap) return lost(it, { why: "cut" });
        if (holds(it) && !it.release && main) {
          it.release = main.release;
          main.release = undefined;
        }
        drop(main);
        main = it;
        candidate = undefined;
      }
      it.proven = Date.now();
      round = undefined;
      renewed = false;
      if (ways[1]) stored(key, it.way.name);
      for (const way of ways.slice(0, ways.indexOf(it.way))) if (way.failures && way.leftUntil < it.proven) leave(way);
      climbLater();
    }
    if (it.skip) {
      if (batch.gap) return lost(it, { why: "cut" });
      const fresh = batch.records.length - it.skip;
      it.skip = Math.max(0, -fresh);
      if (fresh < 0) return;
      batch = { ...batch, records: batch.records.slice(batch.records.length - fresh) };
    }
    deliver(it.way.name, { ...batch, from: hand });
  };

  const deliver = (transport: Transport, batch: Batch) => {
    if (candidate) {
      if (batch.gap) drop(candidate);
      else candidate.skip += batch.records.length;
    }
    hand = batch.to;
    for (const fed of feds.slice()) fed.offer(batch);
    if (batch.closed) {
      happen("end", {});
      return end();
    }
    if (!feds.length) return;
    happen(batch.upToDate ? "tail" : "behind", { transport });
    if (feds.every((fed) => fed.full)) {
      resting = true;
      round = [main ? main.way : ways[0]!];
      halt();
    }
  };

  const lost = (it: Link, ending: Ending) => {
    const { way, proven } = it;
    if (ending.why === "cut" && !proven && !it.asked && !ways[1] && way.name === "websocket") {
      // A page cannot see why an upgrade was refused, and no other transport will.
      it.asked = true;
      if (it.connection) it.connection.stop();
      it.connection = { stop: ask(target, { query: "limit=1&offset=" + hand, done: (answer) => it.over || lost(it, refusal(answer, target)) }) };
      return;
    }
    const wasMain = it === main;
    drop(it);
    const now = Date.now();
    if (ending.why === "refused" && wasMain) {
      const { problem } = ending;
      if ((problem.status === 401 || problem.status === 403) && !renewed && target.renew()) {
        renewed = true;
        return again(way);
      }
      const oldest = problem.oldestOffset;
      if (!oldest || oldest === hand) return refuse(problem);
      deliver(way.name, { ...standing(hand, oldest), gap: { from: hand, to: oldest } });
      return again(way);
    }
    if (ending.why === "goodbye" && wasMain) {
      if (ending.code === "stream-deleted") return refuse({ status: 404, code: ending.code, title: "the stream was deleted" });
      target.renew();
      wait(ending.why, ending.afterMs);
      round = order(way);
      return;
    }
    if (ending.why === "unsupported") ways.splice(ways.indexOf(way), 1);
    else if (ending.why === "no slot") way.leftUntil = now + LEFT_MS;
    else {
      if (proven && now - proven > STABLE_MS) way.failures = way.left = attempts = 0;
      way.failures++;
      if (!wasMain || way.failures > 1) leave(way);
    }
    if (!wasMain) return climbLater();
    const afterMs = ("afterMs" in ending && ending.afterMs) || 0;
    if (afterMs || ending.why === "busy") return wait(ending.why, afterMs);
    if (proven) {
      // A cut is often only that; silence seldom gets better by asking again.
      if (ending.why === "timeout") leave(way);
      else if (way.failures > 1) return wait(ending.why, 0);
      return again(ending.why === "timeout" ? undefined : way);
    }
    if (!ways.length) return refuse({ status: 0, code: "unsupported", title: "no transport works here" });
    if (!round || !round.length) return wait(ending.why, 0);
    begin();
  };

  /** Tries a better way beside the one at work, as soon as one is due. */
  const climbLater = () => {
    clearTimeout(climbing);
    if (!main || candidate) return;
    const better = ways.slice(0, ways.indexOf(main.way));
    if (!better.length) return;
    const due = Math.min(...better.map((way) => Math.max(way.leftUntil, main!.proven + LEFT_MS)));
    climbing = setTimeout(() => climb(order()[0]!), due - Date.now() + 1);
  };

  /** Runs another link beside the one at work, from the hand on. */
  const climb = (way: Way) => {
    if (main && main.proven && !candidate && isToken(hand)) start((candidate = link(way)));
  };

  /** `moved`: what is at work may be dead, and not know it. */
  const better = (moved: boolean) => {
    for (const way of ways) way.leftUntil = 0;
    attempts = 0;
    if (waiting) round = undefined;
    clearTimeout(waiting);
    waiting = undefined;
    if (!main) begin();
    else if (moved) climb(ways[0]!);
    else climbLater();
  };

  const resume = (fed: Fed) => {
    fed.offer(standing(hand, hand));
    resting = false;
    begin();
  };

  const unwatch = watch(better, halt);
  // The last that worked with this origin is tried first; a better one is climbed to.
  const known = stored(key);
  round = order(ways.filter((way) => way.name === known)[0]);
  return {
    get state() {
      return state;
    },
    get hand() {
      return hand;
    },
    add(fed) {
      feds.push(fed);
      resume(fed);
      // Whether it is live it knows only when it knows where the reader stands.
      fed.told(state);
    },
    remove(fed) {
      const at = feds.indexOf(fed);
      if (at < 0) return;
      feds.splice(at, 1);
      if (!feds.length) end();
    },
    resume,
    poke() {
      if (main && main.connection && main.connection.poke) main.connection.poke();
    },
  };
}
