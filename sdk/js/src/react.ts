/** A React hook over {@link follow}. */

import { useEffect, useRef, useState } from "react";
import { follow, type FollowOptions, type Gap, type State } from "./index.js";

/** So many of the newest records are kept, unless the component says. */
const KEEP = 1_000;

/** Records that come within so many milliseconds are shown together. */
const SHOW_AFTER_MS = 16;

/** What {@link useStream} takes: all that `follow` takes, and how much to keep. */
export interface UseStreamOptions extends FollowOptions {
  /** How many of the newest records `records` holds. Default: 1,000. */
  keep?: number;
}

/** What {@link useStream} returns. */
export interface StreamView<T> {
  /** The newest records, oldest first. */
  records: T[];
  /** How the stream stands: connecting, live, waiting and until when, closed, refused and why. */
  state: State;
  /** The last gap, if there was one: records that retention had dropped before they could be read. */
  gap: Gap | undefined;
}

const START: State = { name: "connecting", transport: "websocket" };

/**
 * Follows the stream at `url` while the component is mounted, and shows what came so far. Begins anew when the URL, the
 * offset, the transports, `share` or a `remember` key change; functions may be new with each render. Without a URL it rests.
 *
 * ```jsx
 * const { records, state } = useStream("/v1/stream/news", { offset: "now" });
 * ```
 */
export function useStream<T = unknown>(url: string | URL | null | undefined, options: UseStreamOptions = {}): StreamView<T> {
  const empty: StreamView<T> = { records: [], state: START, gap: undefined };
  const [view, setView] = useState(empty);
  const latest = useRef(options);
  useEffect(() => {
    latest.current = options;
  });
  const { offset, transports, share, remember } = options;
  const key = JSON.stringify([url && `${url}`, offset, transports, share, typeof remember === "string" && remember]);

  useEffect(() => {
    setView(empty);
    if (!url) return;
    let fresh: T[] = [];
    let last: Gap | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const following = follow(url, {
      ...latest.current,
      onRecord: (record, meta) => {
        fresh.push(record as T);
        if (latest.current.onRecord) latest.current.onRecord(record, meta);
        show();
      },
      onState: (state) => {
        if (latest.current.onState) latest.current.onState(state);
        show();
      },
      onGap: (gap) => {
        last = gap;
        if (latest.current.onGap) latest.current.onGap(gap);
        show();
      },
    });
    const show = () => {
      timer = timer || setTimeout(flush, SHOW_AFTER_MS);
    };
    const flush = () => {
      timer = undefined;
      const { keep = KEEP } = latest.current;
      const more = fresh;
      fresh = [];
      setView(({ records }) => ({
        records: more.length ? records.concat(more).slice(-keep) : records,
        state: following.state,
        gap: last,
      }));
    };
    return () => {
      clearTimeout(timer);
      following.stop();
    };
  }, [key]);

  return view;
}
