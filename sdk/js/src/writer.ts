/**
 * Appends, each once and in the order in which they were asked for, however often the connection is cut meanwhile.
 *
 * One message is under way at a time; what is asked for meanwhile goes with the next one. A message has a number (the
 * producer's sequence), and what is in it never changes once it was sent: so it may be sent again, over a reader's
 * WebSocket or by POST, and a try that was believed lost and arrives late is a duplicate to the server. After a refusal
 * a new producer epoch begins: a late try of what was refused is fenced off, and no number has ever two contents.
 */

import { Refused } from "./errors.js";
import { ask, refusal } from "./http.js";
import { askSocket, openSocket } from "./sockets.js";
import { targetOf } from "./target.js";
import type { Problem, TargetOptions } from "./types.js";

/** What {@link writer} takes. */
export interface WriterOptions extends TargetOptions {
  /** The stream's. Asked of the server if it is not given. */
  contentType?: string;
  /**
   * For who must be one producer over restarts: `id` stays, `epoch` is greater than any used before, and a writer with a
   * smaller one is refused from then on. By default each writer is a producer of its own.
   */
  producer?: { id: string; epoch: number };
}

/** Appends to one stream; see {@link writer}. */
export interface Writer {
  /**
   * Appends one record: any JSON value; on `text/*` a string; on other streams a `Uint8Array` (or a string, as UTF-8).
   * Resolves once it is durable, with an offset behind it: of records that travelled together, the one after the last.
   *
   * Rejects with {@link Refused} if the server refuses it. A record that the server does not take (400, 413) is refused
   * alone, and what stands behind it goes on. Any other refusal (closed, deleted, no permission, another producer) is
   * the answer to all that waits then. What passes (no network, a restart, too much to do) is tried again without end.
   */
  append(record: unknown): Promise<string>;
  /** Closes the stream behind what was appended; resolves with its last offset, also if it was closed already. */
  close(): Promise<string>;
  /** How many appends are not answered yet. */
  readonly pending: number;
}

/** A message takes of JSON what waits, within these; of other streams one record, as the body of a POST is one there. */
const RECORDS_MAX = 1_000;
const BYTES_MAX = 256 * 1024; // On a slow phone (50 kB/s) it is through in 5 s, well within the wait for an answer.
const PAUSE_MS_MAX = 30_000;
const POST_MS = 20_000;
const BYTES_PER_MS_MIN = 10; // One large record may take its time.
const SOCKET_MS = 8_000; // A WebSocket that swallows what we send is left for POST after so long.

/** A `String` object is JSON already. A close has none. */
type Data = string | Uint8Array | String | undefined;

interface Item {
  data: Data; // As it was when it was given: the caller may change it later.
  done(offset: string): void;
  fail(error: unknown): void;
}

/** What became of one try. */
interface Answer {
  why?: string;
  offset?: string | null;
  duplicate?: boolean | undefined;
  /** The highest sequence that the server has taken of this epoch. */
  taken?: number;
  type?: string | null;
  /** Refused for good. */
  problem?: Problem | undefined;
  /** Neither: try again, not before so many milliseconds. */
  afterMs?: number;
}

/** A writer of the stream at `url`. Nothing is sent before the first append. */
export function writer(url: string | URL, options: WriterOptions = {}): Writer {
  const { producer, signal } = options;
  const target = targetOf(url, options);
  const id = producer ? producer.id : `${Math.random()}${Date.now()}`;
  let epoch = producer ? producer.epoch : 0;
  let seq = 0;
  let type: string | null | undefined = options.contentType;
  let queue: Item[] = [];
  let batch: Item[] = [];
  let most = RECORDS_MAX; // So many travel together: fewer after a refusal, to find out whose it is.
  let running = false;
  let broken: unknown; // What all that is appended from now on is answered with.
  let cut = (_?: Answer) => {}; // Ends what is being waited for.

  const again = () => cut();

  /** Once the browser is online again, nothing that was begun before is worth waiting for. */
  const online = (listens: "addEventListener" | "removeEventListener") =>
    typeof self === "object" && self[listens] && self[listens]("online", again);

  const isJson = () => /^application\/json/i.test(type!);

  const add = (data?: Data) =>
    new Promise<string>((done, fail) => {
      queue.push({ data, done, fail });
      if (!running) run();
    });

  async function run() {
    running = true;
    online("addEventListener");
    try {
      await 0; // What is appended in one go travels together.
      while (queue.length) {
        if (!type) {
          const told = await insist(() => http());
          if (told.problem) throw new Refused(told.problem);
          type = told.type;
        }
        take();
        if (batch.length) await deliver();
      }
    } catch (error) {
      // Emptied first: whoever appends again in answer to this starts anew.
      const all = batch.concat(queue);
      batch = queue = [];
      for (const item of all) item.fail(error);
    }
    running = false;
    online("removeEventListener");
  }

  /** Waits for what `begin` tells, at most so long; it returns what takes the question back. */
  const wait = (ms: number, begin: (done: (answer?: Answer) => void) => () => void) =>
    new Promise<Answer>((resolve) => {
      if (broken) throw broken;
      const timer = setTimeout(again, ms);
      cut = (answer = {}) => {
        clearTimeout(timer);
        stop();
        resolve(answer);
      };
      const stop = begin(cut);
    });

  /** Asks until there is an answer. Full jitter: up to a quarter of a second at first, then twice that, up to half a minute. */
  async function insist(send: () => Promise<Answer>) {
    let renewed = false;
    for (let tries = 0; ; tries++) {
      const answer = await send();
      const status = answer.problem && answer.problem.status;
      if ((status === 401 || status === 403) && !renewed && target.renew()) {
        renewed = true;
        continue;
      }
      if (answer.offset || status) return { ...answer, tries };
      const jitter = Math.random() * Math.min(250 * 2 ** tries, PAUSE_MS_MAX);
      await wait((answer.afterMs || 0) + jitter, () => () => {});
    }
  }

  /** Moves what goes as one message from the queue to the batch. */
  function take() {
    const fits = ({ data, fail }: Item) =>
      !(data instanceof (isJson() ? Uint8Array : String)) || fail(TypeError("not a record of " + type));
    const isRecord = (item?: Item) => item && item.data !== undefined;
    let count = 0;
    let bytes = 0;
    do bytes += (queue[count]!.data || "").length;
    while (isRecord(queue[0]) && isRecord(queue[++count]) && isJson() && count < most && bytes < BYTES_MAX);
    batch = queue.splice(0, count || 1).filter(fits);
  }

  /** Sends the batch until it is answered. Throws what is the answer to all that waits. */
  async function deliver() {
    let { offset, problem, tries, duplicate } = await insist(() => send());
    if (problem && tries && problem.code === "stream-closed") {
      // Perhaps before it was closed it took a try whose answer was lost.
      const last = await insist(() => send(true));
      if (last.taken! >= seq) offset = last.offset;
    }
    if (offset) {
      // Who keeps an id begins an epoch that was never used: else what is new would be taken for what is there already.
      if (producer && duplicate && !tries) throw (broken = Error("the epoch was used before"));
      seq++;
      most = Math.min(most * 2, RECORDS_MAX);
      for (const item of batch.splice(0)) item.done(offset);
      return;
    }
    const error = new Refused(problem!);
    if (!producer) {
      epoch++;
      seq = 0;
    } else if (tries) throw (broken = error); // Its number may be taken, and another epoch is not ours to begin.
    if (problem!.status !== 400 && problem!.status !== 413) {
      type = options.contentType; // There may be another stream by now.
      throw error;
    }
    if (batch.length > 1 && !tries) {
      most = 1;
      queue = batch.splice(0).concat(queue);
    } else for (const item of batch.splice(0)) item.fail(error);
  }

  /** One try. With `closed` it asks what was taken last: closing a closed stream changes nothing. */
  function send(closed?: boolean): Promise<Answer> {
    const { data } = batch[0]!;
    const close = closed || data === undefined;
    const encoded = () => batch.map(({ data }) => (typeof data === "string" ? JSON.stringify(data) : data));
    const body = close ? "" : isJson() ? `[${encoded()}]` : (data as string | Uint8Array);
    const socket = openSocket(target.identity);
    if (socket && !closed && typeof body === "string" && (isJson() || /^text/i.test(type!))) {
      const what = close ? '"close":true' : `"append":${isJson() ? body : JSON.stringify([body])}`;
      const message = `${what},"producer":${JSON.stringify({ id, epoch, seq })}}`;
      return wait(SOCKET_MS, (done) =>
        askSocket(socket, message, ({ ack, error } = {}) => {
          if (ack) done({ offset: ack.streamNextOffset, duplicate: ack.duplicate && !close });
          else done(error && !error.retry && { problem: error });
        }),
      );
    }
    const headers: Record<string, string> = {
      "Content-Type": type!,
      "Producer-Id": id,
      "Producer-Epoch": `${epoch}`,
      // One more than what is in question, so that a new life of the stream sees a hole, and is not closed.
      "Producer-Seq": `${closed ? seq + 1 : seq}`,
    };
    if (close) headers["Stream-Closed"] = "true";
    return http(headers, body);
  }

  /** Asks for the type; or, with headers, appends. */
  const http = (headers?: Record<string, string>, body?: string | Uint8Array) =>
    wait(POST_MS + (body ? body.length / BYTES_PER_MS_MIN : 0), (done) =>
      ask(target, {
        method: headers && "POST",
        headers,
        query: headers ? "" : "offset=now",
        body,
        done(answer) {
          const header = (name: string) => answer!.header(name);
          const status = answer ? answer.status : 0;
          const offset = status >= 200 && status < 300 && header("stream-next-offset");
          const taken = offset && header("producer-epoch") === `${epoch}` ? parseInt(header("producer-seq")!) : NaN;
          if (offset) done({ offset, taken, duplicate: status === 204 && !!body, type: header("content-type") });
          else done(refusal(answer, target));
        },
      }),
    );

  const abort = () => {
    broken = signal!.reason || Error("aborted");
    again();
  };
  if (signal) {
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort);
  }

  return {
    async append(record) {
      if (record instanceof Uint8Array) return add(record.slice());
      const json = JSON.stringify(record);
      if (!json) throw TypeError("not a JSON value");
      return add(typeof record === "string" ? record : new String(json));
    },
    close: () => add(),
    get pending() {
      return queue.length + batch.length;
    },
  };
}
