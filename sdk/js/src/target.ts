/** Makes a {@link Target} of what the application gave: the URL made absolute, the credentials, what may be shared. */

import { HOLD_SECONDS } from "./transports/poll.js";
import type { Credentials, Target, TargetOptions } from "./types.js";

/** A token is asked for anew so long before it expires, if it is a JWT that says when. */
const EXPIRY_MARGIN_MS = 30_000;

const ids = new WeakMap<object, number>();
let idLast = 0;

/** Stands for a function. */
function known(it: object | undefined): unknown {
  if (typeof it !== "function") return it;
  if (!ids.has(it)) ids.set(it, ++idLast);
  return ids.get(it);
}

export function targetOf(url: string | URL, options: TargetOptions): Target {
  const absolute = new URL(`${url}`, typeof location === "object" ? location.href : undefined);
  absolute.hash = "";
  const { headers, token: ask, WebSocket: Socket } = options;
  const dynamic = typeof headers === "function";
  const identity = absolute.href + JSON.stringify([known(headers), known(ask)]);
  let token: Promise<string> | undefined;
  let expires = Infinity;

  return {
    url: absolute.href,
    origin: absolute.origin,
    identity,
    identityInTabs: dynamic || ask ? undefined : identity,
    WebSocket: Socket as typeof WebSocket,
    holdSeconds: HOLD_SECONDS,
    credentials() {
      if (!dynamic && !ask) return { headers: headers || {} };
      return (async () => {
        const credentials: Credentials = { headers: { ...(dynamic ? await headers() : headers) } };
        if (ask) {
          if (!token || Date.now() > expires - EXPIRY_MARGIN_MS) {
            token = Promise.resolve(ask());
            // A failure is not kept; who waits for it hears of it below.
            token.then((value) => (expires = expiryOf(value)), () => (token = undefined));
          }
          credentials.token = await token;
          credentials.headers.Authorization = "Bearer " + credentials.token;
        }
        return credentials;
      })();
    },
    renew() {
      token = undefined;
      return !!ask;
    },
  };
}

/** When a JWT expires, in milliseconds since 1970. */
function expiryOf(token: string): number {
  try {
    return JSON.parse(atob(token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/"))).exp * 1000 || Infinity;
  } catch {
    return Infinity;
  }
}
