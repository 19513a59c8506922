/**
 * Both polls: one question after the other. The first is answered at once, which proves that it works and says where the
 * reader stands; at the tail a long poll lets the server hold the answer, a short poll waits as long as the server advises.
 */

import { ask, refusal } from "../http.js";
import type { Carrier } from "../types.js";
import { SILENCE_MS } from "./pulse.js";

/** Behind the time for which the server may hold an answer: it is not coming. */
const LATE_MS = 4000;

/** Below the 30 s at which some proxies cut. */
export const HOLD_SECONDS = 20;

/** Shorter holds are not worth it. */
const HOLD_SECONDS_MIN = 2;

/** What ended sooner was not held. */
const LASTED_MS = 1000;

/** Without advice. */
const POLL_AFTER_MS = 1000;

/** The most that a server advises. */
const POLL_AFTER_MS_MAX = 30_000;

export const poller =
  (holds: boolean): Carrier =>
  (target, from, sink) => {
    let at = from;
    let atTail = false;
    let cancel = () => {};
    let timer: ReturnType<typeof setTimeout> | undefined;
    let waiting = false;
    /** Holds that brought nothing, in a row. */
    let missed = 0;
    // What cut it the last time may be gone.
    target.holdSeconds = Math.min(HOLD_SECONDS, target.holdSeconds * 2);

    const stop = () => {
      clearTimeout(timer);
      cancel();
    };

    const go = () => {
      const held = holds && atTail;
      const seconds = target.holdSeconds;
      const since = Date.now();
      waiting = false;
      clearTimeout(timer);
      /** A hold was cut, or was never answered: this network allows less. What came meanwhile is asked for at once. */
      const cut = () => {
        stop();
        target.holdSeconds = Math.max(HOLD_SECONDS_MIN, Math.min(seconds / 2, ((Date.now() - since) / 1000) * 0.75));
        atTail = false;
        if (missed++) sink.ended({ why: "timeout" });
        else go();
      };
      if (held) {
        sink.alive(seconds * 1000 + 2 * LATE_MS);
        timer = setTimeout(cut, seconds * 1000 + LATE_MS);
      }
      cancel = ask(target, {
        query: `offset=${at}${held ? `&live=long-poll&timeout=${seconds}` : ""}`,
        headers: { Accept: "application/vnd.fourfold.message+json" },
        alive: () => held || sink.alive(SILENCE_MS),
        done(answer) {
          clearTimeout(timer);
          if (!answer && held && Date.now() - since > LASTED_MS) return cut();
          const header = (name: string) => answer!.header("stream-" + name);
          let text = answer && answer.status === 200 ? answer.text : "";
          const after = answer ? +header("poll-after")! : 0;
          if (answer && answer.status === 204 && held && header("next-offset") === at) {
            const closed = header("closed") === "true";
            // Nothing came while it was held: the tail. Advice is given with it by a server that is about to stop.
            const goodbye = after && !closed ? { code: "draining", reconnectAfterMs: after } : undefined;
            text = JSON.stringify({ streamNextOffset: at, upToDate: true, streamClosed: closed, goodbye });
          }
          const batch = text ? sink.said(text) : sink.ended(refusal(answer, target));
          if (!batch || batch.closed) return;
          if (held) missed = 0;
          at = batch.to;
          atTail = batch.upToDate;
          const wait = atTail && !holds ? Math.min(after || POLL_AFTER_MS, POLL_AFTER_MS_MAX) : 0;
          waiting = true;
          sink.alive(wait + SILENCE_MS);
          timer = setTimeout(go, wait);
        },
      });
    };
    go();
    return {
      stop,
      poke() {
        if (waiting) go();
      },
    };
  };
