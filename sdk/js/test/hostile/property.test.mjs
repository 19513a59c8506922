// Whatever the network does and however often the server is killed: what a follower gets is what was acknowledged, exactly.
import { test } from "node:test"

import { followerOf } from "./client.mjs"
import { judge } from "./harness.mjs"
import { Random } from "./random.mjs"
import { eachSeed, limit, SECONDS } from "./seeds.mjs"

const FILE = "property.test.mjs"
const SEEDS = 12 // About a minute.
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
