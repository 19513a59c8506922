// One stream, many subscribers, one record a wake: what a delivery costs, and when it comes.
import { load } from "../load.mjs";

export const about = {
  title: "Fan-out: one stream, 1,000 subscribers, 50 records/s of 128 B",
  what: "Everything in memory, as nchan knows nothing else; durability has its own part. Every subscriber reads at once. The bare loop of `write()`, the floor, runs in each round. On a machine that is always busy latencies are those of its queue, and records that come while a long poll is on its way share an answer.",
};

// The peers alternate, so that what changes on the machine meanwhile meets all of them.
const SUBJECTS = [
  ["floor", "websocket"], ["fourfold", "websocket"], ["nchan", "websocket"], ["fourfold", "sse"], ["nchan", "sse"], ["durable-streams", "sse"],
  ["fourfold", "long-poll"], ["nchan", "long-poll"], ["durable-streams", "long-poll"], ["socket.io", "websocket"],
];

export async function run({ quick, rounds, measure }) {
  const flags = { subscribers: 1000, rate: 50, size: 128, seconds: quick ? 2 : 6, warmUp: 1 };
  for (let round = 0; round < rounds; round++) {
    for (const [subject, transport] of SUBJECTS) await measure({ round, subject, transport }, () => load(subject, transport, flags));
  }
}
