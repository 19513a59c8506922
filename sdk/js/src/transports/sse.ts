/**
 * Server-sent events: by `fetch`, which sends headers and sees refusals, else by the native `EventSource`. `data` brings
 * records, and the `control` behind it says where the reader stands: only that one counts.
 */

import { ask, refusal, streams, withQuery } from "../http.js";
import { parsed } from "../message.js";
import type { Carrier, Gap } from "../types.js";
import { HEARTBEAT_SECONDS } from "./pulse.js";

export const sse: Carrier = (target, from, sink, token) => {
  const query = `offset=${from}&live=sse&heartbeat=${HEARTBEAT_SECONDS}`;
  let records: unknown[] = [];
  let gap: Gap | undefined;
  let stop = () => {};
  const cut = () => sink.ended({ why: "cut" });

  /** Takes one event; the base64 of binary records may stand on several lines. */
  const take = (name: string, data: string) => {
    if (name === "data") {
      const { kind } = target;
      const list = kind === "json" ? parsed(data) : [kind === "text" ? data : data.replace(/\s/g, "")];
      if (Array.isArray(list)) records = records.concat(list);
      else cut();
    } else if (name === "gap") gap = (parsed(data) || {}).gap;
    else if (name === "control" || name === "goodbye") {
      sink.said(data, records, gap);
      records = [];
      gap = undefined;
    }
  };

  const byFetch = () => {
    const feed = events(take);
    stop = ask(target, {
      query,
      headers: { Accept: "text/event-stream" },
      chunk(text, answer) {
        if (/^text\/event-stream/.test(answer.header("content-type") || "")) feed(text);
        else cut();
      },
      done: (answer) => sink.ended(refusal(answer, target)),
    });
  };

  const bySource = () => {
    const source = new EventSource(withQuery(target.url, query, token));
    stop = () => source.close();
    for (const name of ["data", "control", "gap", "goodbye"]) {
      source.addEventListener(name, (event) => take(name, (event as MessageEvent).data));
    }
    // It would come back by itself, but only after some failures: here each is weather, told to who decides.
    source.onerror = cut;
  };

  const begin = streams() ? byFetch : typeof EventSource === "function" ? bySource : undefined;
  if (!begin) sink.ended({ why: "unsupported" });
  else if (target.kind) begin();
  else {
    // How records look depends on the stream's content type, which event streams do not tell. The tail costs no read.
    stop = ask(target, {
      query: "offset=now",
      done(answer) {
        if (!answer || !answer.header("stream-next-offset")) return sink.ended(refusal(answer, target));
        const type = answer.header("content-type") || "";
        target.kind = /^application\/json/i.test(type) ? "json" : /^text\//i.test(type) ? "text" : "base64";
        begin();
      },
    });
  }
  return { stop: () => stop() };
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
