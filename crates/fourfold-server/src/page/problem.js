// What went wrong, in one shape: a problem+json answer, a connection that failed, an answer that made no sense.

import { ask } from "./token.js";

export class Problem extends Error {
  constructor({ status = 0, code = "unreachable", detail, retry = true, oldestOffset = null, retryAfter = null }) {
    super(detail);
    this.status = status;
    this.code = code;
    this.detail = detail;
    this.retry = retry;
    this.oldestOffset = oldestOffset;
    this.retryAfter = retryAfter; // milliseconds, when the server named a time
  }

  get line() {
    return this.status ? `${this.status} ${this.code}: ${this.detail}` : this.detail;
  }
}

/** The problem an answer tells. Never fails: an answer from something between us and the server may be anything. */
export async function problemIn(answer) {
  const told = await answer.json().catch(() => null);
  const body = told !== null && typeof told === "object" ? told : {};
  return new Problem({
    status: answer.status,
    code: String(body.code ?? "unexpected-answer"),
    detail: String(body.detail ?? body.title ?? answer.statusText),
    retry: typeof body.retry === "boolean" ? body.retry : answer.status >= 500 || answer.status === 429,
    oldestOffset: typeof body.oldestOffset === "string" ? body.oldestOffset : null,
    retryAfter: retryAfter(answer.headers),
  });
}

export function asProblem(error) {
  if (error instanceof Problem) return error;
  if (error instanceof SyntaxError) {
    return new Problem({ code: "unreadable", detail: "the answer could not be read as JSON", retry: false });
  }
  return new Problem({ detail: "the server cannot be reached" });
}

/**
 * WebSocket and EventSource hide why they were refused. The same read as a plain request tells.
 * Resolves to `null` when that read works: then the refusal was a passing one.
 */
export async function askWhy(stream, offset, signal) {
  try {
    const query = new URLSearchParams({ offset, limit: 1 });
    const answer = await ask(`${stream.url}?${query}`, { cache: "no-store", signal });
    return answer.ok ? null : await problemIn(answer);
  } catch (error) {
    return asProblem(error);
  }
}

function retryAfter(headers) {
  const value = headers.get("retry-after");
  if (value === null) return null;
  const wait = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(wait) ? Math.max(0, wait) : null;
}
