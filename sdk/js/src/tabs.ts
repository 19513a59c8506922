/**
 * One reader for all tabs of a browser that follow the same stream: a Web Lock elects the tab that reads, a
 * BroadcastChannel carries its batches to the others. When it goes, the lock passes on and another tab reads.
 *
 * Nothing is lost or doubled, since each follower takes only what begins at its own hand. The reading tab needs no timers,
 * which browsers throttle in hidden tabs: it answers when it is asked, and one that does not answer is frozen, whereupon
 * the tab that asked reads by itself until it hears from it again.
 */

import type { Batch, Fed, Feed, State } from "./types.js";
import { watch } from "./weather.js";

/** How often a tab that is fed asks, unless it heard something; a hidden one may ask once a minute only. */
const ASK_MS = 5_000;

/** So long a tab is thought to be there after it asked. */
const ASKED_MS = 90_000;

/** So long an answer may take; twice that after each time that it took longer. */
const PATIENCE_MS = 2_500;
const PATIENCE_MS_MAX = 10_000;

interface Word {
  batch?: Batch;
  state: State;
}

/** Whether tabs can share here. */
export function tabsCanShare(): boolean {
  return typeof location === "object" && typeof BroadcastChannel === "function" && !!navigator.locks;
}

/** A feed for this tab's followers of the stream that tabs know by `name`. `read` begins a reader of its own; `over` is called when the last one left. */
export function acrossTabs(name: string, read: (from: string) => Feed, over: () => void): Feed {
  const members = new Set<Fed>();
  let channel: BroadcastChannel | undefined;
  let own: Feed | undefined; // While this tab reads, for all or for itself.
  let leave: (() => void) | undefined; // Gives up the lock.
  let leads = false;
  let state: State = { name: "connecting", transport: "websocket" };
  let hand = "";
  let askedAt = 0;
  let patience = PATIENCE_MS;
  let timer: ReturnType<typeof setTimeout> | undefined;

  /** The other tabs, as a follower of this one's reader. */
  const others: Fed = {
    get hand() {
      return own!.hand;
    },
    get full() {
      return Date.now() - askedAt > ASKED_MS;
    },
    // What its own followers made of this may have ended the reader.
    offer: (batch) => own && tell({ batch, state: own.state }),
    told: (state) => own && tell({ state }),
  };

  const tell = (word: Word) => others.full || channel!.postMessage(word);

  const readHere = () => {
    clearTimeout(timer);
    if (!own) {
      own = read(members.values().next().value!.hand);
      members.forEach((fed) => own!.add(fed));
    }
  };

  const readNoMore = () => {
    if (own) members.forEach((fed) => own!.remove(fed));
    own = undefined;
  };

  const ask = () => {
    clearTimeout(timer);
    if (leads || !channel) return;
    channel.postMessage(0);
    timer = setTimeout(() => {
      patience = Math.min(patience * 2, PATIENCE_MS_MAX);
      readHere();
      timer = setTimeout(ask, patience);
    }, patience);
  };

  const hear = ({ data }: { data: Word | 0 }) => {
    if (!data) {
      askedAt = Date.now();
      if (leads) own!.resume(others); // Which tells where it stands.
    } else if (!leads) {
      readNoMore();
      clearTimeout(timer);
      timer = setTimeout(ask, ASK_MS);
      const { batch } = data;
      const isNews = JSON.stringify(state) !== JSON.stringify(data.state);
      state = data.state;
      if (batch) hand = batch.to;
      members.forEach((fed) => {
        if (batch) fed.offer(batch);
        if (isNews) fed.told(state);
      });
    }
  };

  const start = () => {
    if (channel || !members.size) return;
    const mine = (channel = new BroadcastChannel(name));
    mine.onmessage = hear;
    navigator.locks
      .request(name, () => {
        if (channel !== mine) return; // It does not wait any more.
        leads = true;
        readHere();
        own!.add(others);
        return new Promise<void>((release) => (leave = release));
      })
      .catch(() => channel === mine && !leads && readHere());
    ask();
  };

  const stop = () => {
    clearTimeout(timer);
    if (leads) own!.remove(others);
    readNoMore();
    leads = false;
    if (leave) leave();
    if (channel) channel.close();
    channel = undefined;
  };

  // A page that is kept for going back gives up the lock, and joins again when it is shown.
  const unwatch = watch(start, stop);

  return {
    get state() {
      return own ? own.state : state;
    },
    get hand() {
      return own ? own.hand : hand;
    },
    add(fed) {
      members.add(fed);
      if (own) own.add(fed);
      else {
        fed.told(state);
        ask();
        start();
      }
    },
    remove(fed) {
      members.delete(fed);
      if (own) own.remove(fed);
      if (members.size) return;
      stop();
      unwatch();
      over();
    },
    resume(fed) {
      if (own) own.resume(fed);
      else ask();
    },
  };
}
