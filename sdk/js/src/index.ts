/**
 * Follows a Fourfold stream over whatever gets through: WebSocket, server-sent events, long poll or short poll. Each record
 * once and in order, whatever the network does.
 *
 * ```js
 * import { follow } from "fourfold";
 * for await (const record of follow("https://host/v1/stream/news", { offset: "now" })) console.log(record);
 * ```
 */

export { GapError, Refused } from "./errors.js";
export { follow } from "./follow.js";
export { writer, type Writer, type WriterOptions } from "./writer.js";
export type {
  Events,
  FollowOptions,
  Following,
  Gap,
  HeadersOption,
  Memory,
  Problem,
  Records,
  State,
  TargetOptions,
  Transport,
} from "./types.js";
