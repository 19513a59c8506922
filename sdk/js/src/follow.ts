/**
 * A follower: hands each record to its consumer once and in order. It takes a batch only if that begins where its hand is.
 * What it has missed of its feed, because it came late or its consumer is slow, it reads itself until it meets the feed.
 */

import { GapError, Refused } from "./errors.js";
import { isToken } from "./message.js";
import { reader } from "./reader.js";
import { memoryOf } from "./remember.js";
import { feedOf } from "./share.js";
import { targetOf } from "./target.js";
import type { Batch, Events, Fed, Feed, Following, FollowOptions, Records, State } from "./types.js";

/** What waits for a slow consumer, in characters: one large answer of the server. Then it takes no more until half is gone. */
const BUFFER_CHARS_MAX = 1024 * 1024;

/** `skipped`: so many of its records were done with before this follower began. */
interface Queued extends Batch {
  skipped: number;
}

/** Follows the stream at `url`: yields its records, and those that come. Ends with the stream. */
export function follow(url: string | URL, options: FollowOptions = {}): Following {
  const target = targetOf(url, options);
  const memory = memoryOf(options.remember);
  const { signal, onRecord, onState, onGap } = options;
  const listeners: { [Name in keyof Events]: ((value: Events[Name]) => void)[] } = { state: [], record: [], gap: [], end: [] };
  const queue: Queued[] = [];
  let size = 0;
  let hand = "-1";
  let offset = hand;
  /** Behind the record that is being handed out. */
  let next = hand;
  let skip = 0;
  let state: State = { name: "connecting", transport: "websocket" };
  let pulled = false;
  let pushing = false;
  /** Nothing comes any more; what is in the queue is still handed out. */
  let over = false;
  let failure: Error | undefined;
  let full = false;
  let wake = () => {};
  let feed: Feed | undefined;
  let own: Feed | undefined;

  const emit = <Name extends keyof Events>(name: Name, value: Events[Name]) => {
    for (const listener of listeners[name].slice()) {
      try {
        listener(value);
      } catch (error) {
        // A listener's mistake is not the stream's: told as any uncaught error.
        setTimeout(() => {
          throw error;
        });
      }
    }
  };

  const become = (next: State) => {
    if (state === next || state.name === "closed" || state.name === "refused") return;
    state = next;
    emit("state", state);
  };

  const leave = () => {
    if (over) return;
    over = true;
    if (signal) signal.removeEventListener("abort", stop);
    if (feed) feed.remove(fed);
    meet();
    wake();
  };

  const stop = () => {
    queue.length = 0;
    leave();
    become({ name: "closed" });
  };

  const fail = (error: Refused) => {
    failure = error;
    leave();
    become({ name: "refused", problem: error.problem });
  };

  /** The feed has been met: no more reading of its own. */
  const meet = () => {
    if (own) {
      own.remove(catcher);
      own = undefined;
      if (!over && feed) become(feed.state);
    }
  };

  const catchUp = () => {
    if (own) {
      if (own.poke) own.poke();
    } else {
      own = reader(target, hand, ["short-poll"], () => {});
      own.add(catcher);
    }
  };

  const take = (batch: Batch) => {
    hand = batch.to;
    if (batch.gap) skip = 0;
    const { length } = batch.records;
    const skipped = Math.min(skip, length);
    skip -= skipped;
    if (skipped < length || batch.gap) {
      // A copy: what becomes of it is this follower's.
      queue.push({ ...batch, skipped });
      size += batch.size;
      full = size > BUFFER_CHARS_MAX;
    } else if (!queue.length && !skip) moveTo(hand);
    if (batch.closed) {
      leave();
      if (!queue.length) finish();
    }
    push();
    wake();
  };

  const finish = () => {
    if (state.name === "closed" || failure) return;
    become({ name: "closed" });
    emit("end", undefined);
  };

  const moveTo = (next: string) => {
    if (offset === next) return;
    offset = next;
    if (memory && isToken(next)) {
      try {
        Promise.resolve(memory.save(next)).catch(() => {});
      } catch {
        // The application's storage failed: the next page begins a little earlier.
      }
    }
  };

  /** The place behind `n` records of a batch. */
  const behind = ({ from, to, records }: Batch, n: number) => (n === records.length ? to : isToken(from) ? `${from}+${n}` : offset);

  /** Takes the first batch off the queue. */
  const shift = () => {
    const batch = queue.shift()!;
    size -= batch.size;
    moveTo(batch.to);
    if (full && !over && size < BUFFER_CHARS_MAX / 2) {
      full = false;
      // What a feed said at its end was not heard.
      if (feed && feed.state.name === "closed" && !own) catchUp();
      else if (feed) (own || feed).resume(own ? catcher : fed);
    }
    if (over && !queue.length) finish();
  };

  /** Tells the gap of the first batch, if there is one. False if there is nobody to tell it to. */
  const pass = (batch: Batch): boolean => {
    const { gap } = batch;
    if (!gap) return true;
    batch.gap = undefined;
    next = batch.from = gap.to;
    if (listeners.gap.length) {
      emit("gap", gap);
      return true;
    }
    queue.length = 0;
    fail(new GapError(gap));
    return false;
  };

  /** To listeners, as fast as it comes, unless somebody iterates. */
  const push = () => {
    // A listener may add another one.
    if (pushing) return;
    pushing = true;
    while (!pulled && queue.length && listeners.record.length) {
      const batch = queue[0]!;
      if (!pass(batch)) break;
      const { records } = batch;
      for (let n = batch.skipped; n < records.length && queue[0] === batch; ) {
        const record = records[n];
        next = behind(batch, ++n);
        emit("record", record);
      }
      if (queue[0] === batch) shift();
      // A listener has stopped it.
      else moveTo(next);
    }
    pushing = false;
  };

  async function* walk(): AsyncGenerator<Queued> {
    pulled = true;
    try {
      for (;;) {
        const batch = queue[0];
        if (batch) {
          // Its listener may have stopped it.
          if (!pass(batch) || queue[0] !== batch) continue;
          yield batch;
          if (queue[0] === batch) shift();
        } else if (failure) throw failure;
        else if (over) return;
        else await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      stop();
    }
  }

  /** This follower, as a feed sees it. */
  const as = (offer: Fed["offer"], told: Fed["told"]): Fed => ({
    get hand() {
      return hand;
    },
    get full() {
      return full;
    },
    offer(batch) {
      if (!over && !full) offer(batch);
    },
    told(next) {
      if (next.name === "refused") fail(new Refused(next.problem));
      else told(next);
    },
  });

  const fed = as(
    (batch) => {
      if (batch.from === hand) {
        meet();
        take(batch);
      } else if (!isToken(hand) || batch.to > hand) catchUp();
    },
    (next) => {
      // Its feed is at the end, and has nobody to wait for.
      if (next.name === "closed") {
        if (!over && !full) catchUp();
      } else if (!own) become(next);
    },
  );

  /** Takes what this follower reads itself. */
  const catcher = as(
    (batch) => {
      if (batch.from !== hand) return;
      take(batch);
      if (feed && feed.hand === hand && feed.state.name !== "closed") meet();
    },
    (next) => {
      if (next.name !== "closed") become(next.name === "live" ? { ...next, name: "catching up" } : next);
    },
  );

  const begin = async () => {
    let from: string | null | undefined;
    try {
      from = memory && (await memory.load());
    } catch {
      // As if nothing had been kept.
    }
    if (over) return;
    const [at, done] = `${from || options.offset || "-1"}`.split("+") as [string, string?];
    offset = hand = at;
    skip = Number(done) || 0;
    feed = feedOf(target, hand, options);
    feed.add(fed);
  };

  const following: Following = {
    get state() {
      return state;
    },
    get offset() {
      return offset;
    },
    on(name, listener) {
      listeners[name].push(listener);
      push();
      return () => {
        const at = listeners[name].indexOf(listener);
        if (at >= 0) listeners[name].splice(at, 1);
      };
    },
    async *batches(): AsyncGenerator<Records> {
      for await (const batch of walk()) yield { records: batch.records.slice(batch.skipped), offset: batch.to };
    },
    async *[Symbol.asyncIterator]() {
      for await (const batch of walk()) {
        const { records } = batch;
        for (let n = batch.skipped; n < records.length; ) {
          const record = records[n];
          next = behind(batch, ++n);
          emit("record", record);
          yield record;
          if (n < records.length) moveTo(next);
          if (queue[0] !== batch) return;
        }
      }
    },
    stop,
  };

  if (onRecord) listeners.record.push((record) => onRecord(record, { offset: next }));
  if (onState) listeners.state.push(onState);
  if (onGap) listeners.gap.push(onGap);
  if (signal) {
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop);
  }
  // Not before the application has had time to listen.
  Promise.resolve().then(begin);
  return following;
}
