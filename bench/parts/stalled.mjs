// Readers that never read, beside some that do: what they do to the publisher and to the others, and what they cost.
import { load } from "../load.mjs";

export const about = {
  title: "100 readers that never read, beside 20 that do",
  what: "Records of 1 KiB into one stream: once as fast as they are acknowledged (16 in flight), once 500 a second. Each with and without the stalled ones, in turn.",
};

// "full": left out of a quick run.
const SUBJECTS = [
  ["fourfold", "websocket"], ["nchan", "websocket", "full"], ["fourfold", "sse", "full"], ["nchan", "sse"], ["durable-streams", "sse", "full"],
  ["fourfold", "long-poll", "full"],
];

export async function run({ quick, rounds, measure }) {
  for (let round = 0; round < Math.min(rounds, 2); round++) {
    for (const [subject, transport, only] of SUBJECTS) {
      if (quick && only) continue;
      for (const rate of [0, 500]) {
        for (const stalled of [0, 100]) {
          // A peer that falls behind is not asked more often than it takes to see that.
          if (round > 0 && subject !== "fourfold") continue;
          const flags = { subscribers: 20, stalled, rate, inFlight: rate === 0 ? 16 : 1, size: 1024, seconds: quick ? 2 : rate === 0 ? 4 : 6, warmUp: 1 };
          await measure({ round, subject, transport, rate, stalled }, () => load(subject, transport, flags));
        }
      }
    }
  }
}
