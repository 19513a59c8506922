// One subscription: a place in a stream, and the transport that reads on from there at the moment.
//
// Promises: the offset in hand always names the place behind the last record that was counted, so that a cut or
// a switch of the transport loses nothing and repeats nothing. What a transport says after it was stopped is not
// heard.
//
// `state` is one of: connecting, live, waiting (between two short polls), cut, closed, error.

import { Continuity } from "./continuity.js";
import { Latency } from "./latency.js";
import { Backoff, pause } from "./pause.js";
import { TRANSPORTS } from "./transport.js";

const CUT_MS = 1000;
const AFTER_GAP_MS = 200; // retention may run on meanwhile: do not chase it without a breath

export class Subscription {
  state = "connecting";
  note = "";
  #run = null;
  #backoff = new Backoff();
  #encoder = new TextEncoder();
  #listener;

  /** The listener has `changed()` and `arrived(records)`. Nothing is read before `restart` or `resume`. */
  constructor(stream, transport, offset, listener) {
    this.stream = stream;
    this.transport = transport;
    this.#listener = listener;
    this.#begin(offset);
  }

  restart(offset) {
    this.#begin(offset);
    this.resume();
  }

  switchTo(transport) {
    this.transport = transport;
    this.#backoff.reset();
    this.resume();
  }

  cut() {
    this.#hush();
    this.#become("cut", "Cut here. It goes on from the offset in hand.");
    this.#resumeAfter(CUT_MS);
  }

  stop() {
    this.#hush();
  }

  resume() {
    this.#hush();
    this.#become("connecting", "");
    this.latency.begin();
    const run = { over: false };
    this.#run = run;
    const stop = TRANSPORTS[this.transport].read(this.stream, this.offset, this.#sink(run));
    run.stop = stop;
  }

  #begin(offset) {
    this.offset = offset;
    this.records = 0;
    this.requests = 0;
    this.bytes = 0;
    this.gaps = 0;
    this.continuity = new Continuity();
    this.latency = new Latency();
  }

  #sink(run) {
    const heard = {
      asked: () => (this.requests += 1),
      connecting: () => this.#become("connecting"),
      live: () => this.#become("live"),
      waiting: () => this.#become("waiting"),
      delivered: (records, offset, text) => this.#deliver(records, offset, text),
      gap: (from, to) => this.#gap(from, to),
      closed: (why) => this.#end("closed", `${why[0].toUpperCase()}${why.slice(1)}.`),
      goodbye: (ms, code) => {
        this.#end("connecting", `The server said goodbye (${code}) and when to come back.`);
        this.#resumeAfter(ms);
      },
      failed: (problem) => this.#fail(problem),
    };
    const guarded = Object.entries(heard).map(([name, act]) => [name, (...told) => run.over || act(...told)]);
    return Object.fromEntries(guarded);
  }

  #deliver(records, offset, text) {
    this.offset = offset;
    this.records += records.length;
    this.bytes += this.#encoder.encode(text).length;
    for (const record of records) {
      this.continuity.take(record);
      this.latency.take(record);
    }
    this.#backoff.reset();
    if (records.length > 0) this.#listener.arrived(records);
    this.#listener.changed();
  }

  #gap(from, to) {
    this.gaps += 1;
    this.offset = to;
    this.continuity.forgive();
    this.#become(this.state, `Gap: retention dropped what lay between ${from} and ${to}.`);
  }

  #fail(problem) {
    const { line } = problem;
    if (problem.status === 410 && problem.oldestOffset !== null) {
      this.#gap(this.offset, problem.oldestOffset);
      this.#end("connecting", this.note);
      return this.#resumeAfter(AFTER_GAP_MS, this.note);
    }
    if (!problem.retry) return this.#end("error", line);
    const wait = this.#backoff.next(problem.retryAfter);
    this.#end("error", `${line}. Again in ${Math.ceil(wait / 1000)} s.`);
    this.#resumeAfter(wait);
  }

  #resumeAfter(ms, note = "") {
    const over = new AbortController();
    const run = { over: false, stop: () => over.abort() };
    this.#run = run;
    pause(ms, over.signal).then(
      () => {
        this.resume();
        if (note) this.#become(this.state, note);
      },
      () => {},
    );
  }

  #end(state, note) {
    this.#hush();
    this.#become(state, note);
  }

  #hush() {
    const run = this.#run;
    this.#run = null;
    if (run === null) return;
    run.over = true;
    run.stop?.();
  }

  #become(state, note = this.note) {
    if (state === this.state && note === this.note) return;
    this.state = state;
    this.note = note;
    this.#listener.changed();
  }
}
