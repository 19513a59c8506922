// Short polls that find nothing new: what each costs, and so what an idle poller costs at which interval.
import { load } from "../load.mjs";

export const about = {
  title: "Idle short polls",
  what: "200 pollers of one stream to which nothing is appended; every answer but the first is a 304.",
};

const POLLERS = 200;

export async function run({ quick, rounds, measure }) {
  for (let round = 0; round < Math.min(rounds, 2); round++) {
    for (const interval of quick ? [100] : [50, 100, 250, 1000]) {
      for (const subject of ["fourfold", "nchan", "durable-streams"]) {
        const flags = { subscribers: 0, idle: POLLERS, writers: 0, interval, seconds: quick ? 2 : 4, warmUp: 1 };
        await measure({ round, subject, transport: "short-poll", interval }, () => load(subject, "short-poll", flags));
      }
    }
  }
}
