/** Long poll: the server holds the answer until there is something to say. */

import { poller } from "./poll.js";

export const longPoll = poller(true);
