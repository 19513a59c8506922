/** Short poll: asks, and asks again after as long as the server advises. Works wherever anything works. */

import { poller } from "./poll.js";

export const shortPoll = poller(false);
