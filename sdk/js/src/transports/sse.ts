/**
 * Server-sent events: by `fetch`, which sends headers and sees refusals, else by the native `EventSource`. `data` brings
 * records, and the `control` behind it says where the reader stands: only that one counts.
 */

import { ask, refusal, streams, withQuery } from "../http.js";
import { message, parsed } from "../message.js";
import type { Carrier, Ending } from "../types.js";
import { HEARTBEAT_SECONDS, SILENCE_MS, whenReady } from "./pulse.js";

export const sse: Carrier = (target, from, sink) => {
  const Source = typeof EventSource === "function" ? EventSource : undefined;
  let at = from;
  let records: unknown[] = [];
  let close = () => {};
  let over = false;

  const end = (ending: Ending) => {
    if (over) return;
    stop();
    sink.ended(ending);
  };
  const stop = () => {
    over = true;
    close();
  };

  /** Takes one event; the base64 of binary records may stand on several lines. */
  const take = (name: string, data: string) => {
    if (over) return;
    if (name === "data") {
      const list = target.kind === "json" && parsed(data);
      if (target.kind === "json" && !Array.isArray(list)) end({ why: "cut" });
      else records = records.concat(list || [target.kind === "text" ? data : data.replace(/\s/g, "")]);
    } else if (name === "control" || name === "goodbye") {
      const it = message(data, at, records);
      records = [];
      if (!it) return end({ why: "cut" });
      if ("why" in it) return end(it);
      if (gap) it.gap = gap;
      gap = undefined;
      at = it.to;
      sink.alive(SILENCE_MS);
      sink.batch(it);
    } else if (name === "gap") {
      const it = parsed(data);
      if (it) gap = it.gap;
    }
  };
  let gap: { from: string; to: string } | undefined;

  const query = () => `offset=${at}&live=sse&heartbeat=${HEARTBEAT_SECONDS}`;

  const byFetch = () => {
    const feed = events(take);
    close = ask(target, {
      query: query(),
      headers: { Accept: "text/event-stream" },
      chunk(text, answer) {
        if (/^text\/event-stream/.test(answer.header("content-type") || "")) feed(text);
        else end({ why: "cut" });
      },
      done: (answer) => end(answer && answer.status === 200 ? { why: "cut" } : refusal(answer, target)),
    });
  };

  const bySource = () => {
    close = whenReady(target, sink, ({ token }) => {
      const source = new Source!(withQuery(target.url, query() + (token ? `&token=${encodeURIComponent(token)}` : "")));
      close = () => source.close();
      for (const name of ["data", "control", "gap", "goodbye"]) {
        source.addEventListener(name, (event) => take(name, (event as MessageEvent).data));
      }
      // It would come back by itself, but only after some failures: here each is weather, told to who decides.
      source.onerror = () => end({ why: "cut" });
    });
  };

  const begin = streams() ? byFetch : Source ? bySource : undefined;
  if (!begin) {
    sink.ended({ why: "unsupported" });
  } else if (target.kind) {
    begin();
  } else {
    // How records look depends on the stream's content type, which event streams do not tell. The tail costs no read.
    close = ask(target, {
      query: "offset=now",
      done(answer) {
        if (!answer || answer.status !== 200 || !answer.header("stream-next-offset")) return end(refusal(answer, target));
        const type = answer.header("content-type") || "";
        target.kind = /^application\/json/i.test(type) ? "json" : /^text\//i.test(type) ? "text" : "base64";
        begin();
      },
    });
  }
  return { stop };
};

/** Reads an event stream as the HTML standard says; what is cut in the middle of an event is dropped. */
function events(take: (name: string, data: string) => void): (text: string) => void {
  let rest = "";
  let name = "";
  let data: string[] = [];
  return (text) => {
    rest += text;
    for (;;) {
      // A CR at the end may be half of a CR LF.
      const line = /^([^\r\n]*)(\r\n|\n|\r(?!$))/.exec(rest);
      if (!line) return;
      rest = rest.slice(line[0].length);
      const [, field, value] = /^([^:]*):? ?([^]*)$/.exec(line[1]!)!;
      if (!line[1]) {
        if (data.length) take(name, data.join("\n"));
        name = "";
        data = [];
      } else if (field === "event") name = value!;
      else if (field === "data") data.push(value!);
    }
  };
}
