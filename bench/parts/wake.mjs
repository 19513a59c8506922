// What several records at one wake save: CPU per delivery against records a wake.
import { load } from "../load.mjs";

export const about = {
  title: "Records a wake: 200 subscribers, 25 wakes a second, 1 to 16 records of 128 B each",
  what: "The records of a wake are appended in one step, where the server knows that (a JSON array), else one behind the other on one connection. The floor puts them into one `write()`.",
};

// "full": left out of a quick run.
const SUBJECTS = [
  ["floor", "websocket"], ["fourfold", "websocket"], ["nchan", "websocket"], ["fourfold", "sse"], ["durable-streams", "sse", "full"],
  ["fourfold", "long-poll", "full"], ["nchan", "sse", "full"],
];

export async function run({ quick, rounds, measure }) {
  for (let round = 0; round < rounds; round++) {
    // The goal is at 8, so that is measured in every round.
    for (const wake of quick || round > 0 ? [8] : [1, 2, 4, 8, 16]) {
      for (const [subject, transport, only] of SUBJECTS) {
        if (quick && only) continue;
        const flags = { subscribers: 200, rate: 25 * wake, batch: wake, size: 128, seconds: quick ? 2 : 3, warmUp: 1 };
        await measure({ round, subject, transport, wake }, () => load(subject, transport, flags));
      }
    }
  }
}
