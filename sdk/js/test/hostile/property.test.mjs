/**
 * Whatever the network does and however often the server is killed: what a follower gets is what was acknowledged, exactly.
 *
 * Longer: FOURFOLD_SEEDS=100 FOURFOLD_SECONDS=40, from FOURFOLD_FIRST=1000 on, FOURFOLD_AT_ONCE=4. One: FOURFOLD_SEED=7.
 * FOURFOLD_LOG=200 shows so many lines of what the proxy did, of seeds that pass as well.
 */
import { test } from "node:test"

import { follow, followerOf, WebSocket, writer } from "./client.mjs"
import { judge, judgeGaps, judgeWriter } from "./harness.mjs"
import { Random } from "./random.mjs"
import { Climbs } from "./schedule.mjs"
import { eachSeed, limit, SECONDS } from "./seeds.mjs"

const FILE = "property.test.mjs"
const SEEDS = 12 // All of them together take about a minute and a half.
const CLIMB_SEEDS = 6
const GAP_SEEDS = 6
const WRITER_SEEDS = 6
const WAYS = ["websocket", "sse", "long-poll", "short-poll"]

const FOLLOWERS = "followers receive exactly what was acknowledged"
test(FOLLOWERS, limit(SEEDS), () =>
  eachSeed(FOLLOWERS, FILE, SEEDS, (seed) => {
    const random = new Random(seed, "followers")
    // Most may use all transports, some only a few, in any order.
    const options = () => {
      const some = WAYS.map((way) => [random.fraction(), way]).sort(([a], [b]) => a - b).map(([, way]) => way)
      return random.chance(0.3) ? { transports: some.slice(0, random.between(1, 4)) } : {}
    }
    return judge({ seed, seconds: SECONDS, follower: followerOf(options), followers: 6 })
  }),
)

const CLIMBERS = "followers that fall and climb back in a fast stream lose nothing"
test(CLIMBERS, limit(CLIMB_SEEDS), () =>
  eachSeed(CLIMBERS, FILE, CLIMB_SEEDS, async (seed) => {
    const follower = followerOf(() => ({}))
    const weather = new Climbs(seed, Math.max(SECONDS, 9) * 1_000)
    return judge({ seed, seconds: SECONDS, follower, followers: 5, weather, paceMs: 3 })
  }),
)

const GAPS = "what retention took from a follower is told, and nothing else is missing"
test(GAPS, limit(GAP_SEEDS), () =>
  eachSeed(GAPS, FILE, GAP_SEEDS, (seed) => {
    let number = 0
    const follower = (url, { signal, gap }) => follow(url, { signal, WebSocket, share: number++ % 2 ? "page" : false, onGap: gap })
    return judgeGaps({ seed, seconds: SECONDS, follower })
  }),
)

const WRITER = "what a writer was told is in the stream is there, once and in order"
test(WRITER, limit(WRITER_SEEDS), () =>
  eachSeed(WRITER, FILE, WRITER_SEEDS, (seed) => {
    // Half of them beside a reader of the same page, whose WebSocket it may use.
    const make = (url, { seed, signal }) => {
      if (seed % 2 === 0) follow(url, { signal, WebSocket, share: "page", onRecord() {} }).on("end", () => {})
      return writer(url, { signal, WebSocket })
    }
    return judgeWriter({ seed, seconds: SECONDS, writer: make })
  }),
)
