// How fast appends are acknowledged, durably where the server can.
import { load } from "../load.mjs";

export const about = {
  title: "Appends: as fast as they are acknowledged",
  what: "Records of 128 B. Ours and ElectricSQL's server sync each append to the disk before they answer; nchan has no disk. First 16 streams, each with one writer with 4 appends in flight (64 in all) and one SSE subscriber; then one stream and ever more writers with one append in flight each, nobody reading.",
};

const DURABLE = {
  fourfold: { engine: "embedded" },
  nchan: {},
  "durable-streams": { durability: "wal" },
};

export async function run({ quick, rounds, measure }) {
  const seconds = quick ? 2 : 5;
  for (let round = 0; round < rounds; round++) {
    for (const [subject, options] of Object.entries(DURABLE)) {
      const flags = { subscribers: 16, streams: 16, inFlight: 4, rate: 0, size: 128, seconds, warmUp: 1 };
      await measure({ round, subject, transport: "sse", shape: "streams" }, () => load(subject, "sse", flags, options));
    }
  }
  for (const writers of quick ? [64] : [1, 4, 16, 64, 256]) {
    for (const [subject, options] of Object.entries(DURABLE)) {
      const flags = { subscribers: 0, writers, rate: 0, size: 128, seconds, warmUp: 1 };
      await measure({ subject, transport: "sse", shape: "writers", writers }, () => load(subject, "sse", flags, options));
    }
  }
}
