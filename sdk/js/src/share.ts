/** One reader for all followers of a stream in this page, and where it may be, over its tabs. */

import { reader, TRANSPORTS } from "./reader.js";
import { acrossTabs, tabsCanShare } from "./tabs.js";
import type { Feed, FollowOptions, Target } from "./types.js";

const feeds = new Map<string, Feed>();

/** The feed for who wants to read `target` from the offset `from`, which is where it begins if it is new. */
export function feedOf(target: Target, from: string, options: FollowOptions): Feed {
  const transports = options.transports || TRANSPORTS;
  if (options.share === false) return reader(target, from, transports, () => {});
  const key = target.identity + " " + transports;
  let feed = feeds.get(key);
  if (!feed) {
    const over = () => feeds.delete(key);
    feed =
      options.share !== "page" && target.identityInTabs && tabsCanShare()
        ? acrossTabs(`${target.identityInTabs} ${transports}`, (from) => reader(target, from, transports, () => {}), over)
        : reader(target, from, transports, over);
    feeds.set(key, feed);
  }
  return feed;
}
