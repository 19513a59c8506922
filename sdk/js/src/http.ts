/**
 * One request, over `fetch`, else `XMLHttpRequest`. Never throws and never rejects: `done` comes at most once, without an
 * answer if there was none or it was cut, and not after the returned function has taken the request back.
 */

import { parsed } from "./message.js";
import type { Ending, Target } from "./types.js";

export interface Answer {
  status: number;
  header(name: string): string | null;
  text: string;
}

export interface Ask {
  method?: string;
  /** Behind the `?`. */
  query?: string;
  headers?: Record<string, string>;
  body?: string | Uint8Array | undefined;
  /** Something came. */
  alive?(): void;
  /** Gets the text of a good answer piece by piece, which then is not in `text`. Only where {@link streams}. */
  chunk?(text: string, answer: Answer): void;
  done(answer?: Answer): void;
}

/** Whether the body of an answer can be read as it comes. */
export function streams(): boolean {
  return typeof fetch === "function" && typeof TextDecoder === "function" && typeof ReadableStream === "function";
}

/** The URL with a query added to what it has, and a token to that. */
export function withQuery(url: string, query?: string, token?: string): string {
  if (token) query += "&access_token=" + encodeURIComponent(token);
  return query ? url + (url.indexOf("?") < 0 ? "?" : "&") + query : url;
}

export function ask(target: Target, it: Ask): () => void {
  let over = false;
  let abort: () => void = () => {};
  const alive = it.alive || (() => {});
  const done = (answer?: Answer) => {
    if (!over) {
      over = true;
      it.done(answer);
    }
  };
  const send = async () => {
    const credentials = await target.credentials();
    if (over) return;
    const headers = { ...credentials.headers, ...it.headers };
    const url = withQuery(target.url, it.query);
    if (typeof fetch !== "function") {
      abort = overXhr(url, headers, it, done);
      return;
    }
    const controller = typeof AbortController === "function" ? new AbortController() : undefined;
    abort = () => controller && controller.abort();
    const response = await fetch(url, {
      method: it.method || "GET",
      headers,
      body: it.body as BodyInit | undefined,
      signal: controller && controller.signal,
    });
    const answer: Answer = { status: response.status, header: (name) => response.headers.get(name), text: "" };
    if (!response.body || !streams()) {
      answer.text = await response.text();
    } else {
      const body = response.body.getReader();
      const decoder = new TextDecoder();
      for (;;) {
        const part = await body.read();
        // Without a controller it ends here, with the next heartbeat at the latest.
        if (over) return body.cancel();
        const text = decoder.decode(part.value, { stream: !part.done });
        alive();
        if (it.chunk && answer.status === 200) it.chunk(text, answer);
        else answer.text += text;
        if (part.done) break;
      }
    }
    done(answer);
  };
  send().catch(() => done());
  return () => {
    over = true;
    abort();
  };
}

function overXhr(url: string, headers: Record<string, string>, it: Ask, done: (answer?: Answer) => void): () => void {
  const xhr = new XMLHttpRequest();
  xhr.open(it.method || "GET", url);
  for (const name in headers) xhr.setRequestHeader(name, headers[name]!);
  xhr.onprogress = it.alive || null;
  xhr.onloadend = () => {
    const { status, responseText: text } = xhr;
    // None if it failed, or was cut.
    done(status ? { status, text, header: (name) => xhr.getResponseHeader(name) } : undefined);
  };
  xhr.send(it.body as XMLHttpRequestBodyInit | undefined);
  return () => xhr.abort();
}

/** What an answer that is no success means: a refusal if the server itself says so, else weather. */
export function refusal(answer: Answer | undefined, target: Target): Ending {
  if (!answer) return { why: "cut" };
  const status = answer.status;
  const problem = /problem\+json/.test(answer.header("content-type") || "") && parsed(answer.text);
  // Not from our server: whoever stands before it may want a newer token as well.
  if (!problem && (status === 401 || status === 403)) target.renew();
  const after = answer.header("retry-after");
  const afterMs = after ? Math.max(0, +after * 1000 || Date.parse(after) - Date.now()) || 0 : 0;
  if (/^(408|425|429|5..)$/.test("" + status)) return { why: "busy", afterMs };
  if (problem && typeof problem.code === "string") return { why: "refused", problem: { ...problem, status } as never };
  return { why: "cut", afterMs };
}
