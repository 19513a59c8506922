// A very fast stream: who still gets every record.
import { load } from "../load.mjs";

export const about = {
  title: "200,000 records/s into one stream, 10 readers",
  what: "Records of 128 B, appended 500 at a time where the server knows batches, else pipelined.",
};

// "full": left out of a quick run.
const SUBJECTS = [
  ["fourfold", "websocket"], ["nchan", "websocket", "full"], ["fourfold", "sse"], ["nchan", "sse", "full"], ["fourfold", "portions", "full"],
  ["fourfold", "long-poll"], ["durable-streams", "sse", "full"], ["fourfold", "short-poll", "full"],
];

export async function run({ quick, measure }) {
  for (const [subject, transport, only] of SUBJECTS) {
    if (quick && only) continue;
    const flags = { subscribers: 10, rate: 200_000, batch: 500, inFlight: 4, size: 128, interval: 50, seconds: quick ? 2 : 5, warmUp: 1 };
    await measure({ subject, transport, rate: 200_000 }, () => load(subject, transport, flags));
  }
}
