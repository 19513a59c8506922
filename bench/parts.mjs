// All parts, in the order of a run and of the page. Each file has what it is about, how it is measured, and how it is shown. To
// add one: a file and a line here.
import * as append from "./parts/append.mjs"
import * as burst from "./parts/burst.mjs"
import * as catch_up from "./parts/catch_up.mjs"
import * as cold from "./parts/cold.mjs"
import * as fan_out from "./parts/fan_out.mjs"
import * as growth from "./parts/growth.mjs"
import * as idle from "./parts/idle.mjs"
import * as poll from "./parts/poll.mjs"
import * as stalled from "./parts/stalled.mjs"
import * as transports from "./parts/transports.mjs"
import * as wake from "./parts/wake.mjs"

export const PARTS = { fan_out, wake, growth, idle, poll, append, burst, stalled, cold, catch_up, transports }
