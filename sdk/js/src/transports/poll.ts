/**
 * Both polls: one question after the other. The first is answered at once, which proves that it works and says where the
 * reader stands; at the tail a long poll lets the server hold the answer, a short poll waits as long as the server advises.
 */

import { ask, refusal } from "../http.js";
import { message } from "../message.js";
import type { Carrier } from "../types.js";
import { SILENCE_MS } from "./pulse.js";

/** Behind the time for which the server may hold an answer: it is not coming. */
const LATE_MS = 5000;

/** Below the 30 s at which some proxies cut. */
export const HOLD_SECONDS = 20;

/** A hold that is cut even when it is so short is not worth it. */
const HOLD_SECONDS_MIN = 2;

/** Without advice. */
const POLL_AFTER_MS = 1000;

export const poller =
  (holds: boolean): Carrier =>
  (target, from, sink) => {
    let at = from;
    let atTail = false;
    let cancel = () => {};
    let timer: ReturnType<typeof setTimeout> | undefined;
    let waiting = false;
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
      /** The hold was cut: by a proxy that allows less, if it lasted. */
      const cut = () => {
        stop();
        target.holdSeconds = seconds / 2;
        if (target.holdSeconds < HOLD_SECONDS_MIN) {
          target.holdSeconds = HOLD_SECONDS_MIN;
          sink.ended({ why: "cut" });
        } else go();
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
          if (held && !answer && Date.now() - since > 1000) return cut();
          const status = answer ? answer.status : 0;
          const header = (name: string) => answer!.header("stream-" + name);
          const after = answer && +(header("poll-after") || 0);
          let it;
          if (status === 200) it = message(answer!.text, at);
          else if (status === 204 && held && header("next-offset") === at) {
            const closed = header("closed") === "true";
            if (after && !closed) it = { why: "goodbye" as const, code: "draining", afterMs: after };
            else it = { from: at, to: at, records: [], upToDate: true, closed, size: 0 };
          }
          if (!it || "why" in it) return sink.ended(it || (status === 200 ? { why: "cut" } : refusal(answer, target)));
          at = it.to;
          atTail = it.upToDate;
          if (!it.closed) {
            const wait = atTail && !holds ? after || POLL_AFTER_MS : 0;
            waiting = true;
            sink.alive(wait + SILENCE_MS);
            timer = setTimeout(go, wait);
          }
          sink.batch(it);
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
