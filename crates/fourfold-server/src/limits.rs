//! Every maximum of the wire: what it bounds, its unit, and why it is what it is. One that can be configured is here as its default, `docs/limits.md`
//! is made of this file, and [`Limits`] is what judges by those that are counted.

mod live;
mod options;
#[cfg(test)]
mod page;

use std::time::Duration;

pub use live::Limits;
pub use options::{LimitOptions, PerAddress};

use crate::gcra::Rate;

/// The longest request target, in bytes. A stream name of 1,024 bytes may be percent-encoded to three times its length; the query adds little.
pub const URL_BYTES_MAX: usize = 8 * 1024;

/// All headers of a request together, names and values, in bytes. Cookies and tokens of real sites fit.
pub const HEADER_BYTES_MAX: usize = 32 * 1024;

/// How many headers a request may have. Browsers send about 20.
pub const HEADERS_MAX: usize = 100;

/// What the HTTP parser buffers for a request head, in bytes. Larger than the two maxima above, so that what exceeds those is
/// parsed and refused with an explanation.
pub const HEAD_BUFFER_BYTES: usize = 64 * 1024;

/// Connections that the kernel has opened and the server has not accepted yet; the kernel's own maximum (`net.core.somaxconn`) may be lower.
/// Those beyond are dropped and come again after a second, so that all who return after a restart should fit.
pub const BACKLOG: u32 = 4_096;

/// How long a TLS handshake may take, all of it, however the client sends its part. A lost packet or two on a slow line fit; whoever only connects
/// holds a connection no longer than this.
pub const TLS_HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(10);

/// What a client may send until the TLS handshake is over, in bytes. One with keys against quantum computers sends about 2 KiB.
pub const TLS_HANDSHAKE_BYTES_MAX: usize = 32 * 1024;

/// Streams of one HTTP/2 connection at once; RFC 9113 wants no fewer than 100. A page with more waits for one to end.
pub const H2_STREAMS_MAX: u32 = 128;

/// What an HTTP/2 client may send on a stream before it is read, in bytes: a body at 20 ms and 100 Mbit/s is not held up.
pub const H2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// The same for a connection, in bytes: that is what its unread bodies can cost.
pub const H2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// The largest HTTP/2 frame that is taken, in bytes: the protocol's least maximum, so that one body does not hold up the others.
pub const H2_FRAME_BYTES_MAX: u32 = 16 * 1024;

/// What is handed to HTTP/2 for a stream beyond what has gone, in bytes: one portion of a cursor. The next is read when it has gone.
pub const H2_SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Streams that were reset before they were looked at, and then streams that were reset because of what the client did: beyond it the connection ends.
pub const H2_RESETS_MAX: usize = 50;

/// Whole answers that one HTTP/2 connection has in memory, in bytes, counted by what they may become; and as much again for bodies of requests that
/// came whole, until they are answered. Further requests wait. One body of the largest size fits, whatever that is set to be; those that are still
/// under way count in `bodies-max`, of which one such connection may have half, and nobody waits for them.
pub const H2_OUTSTANDING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// An HTTP/2 client answers a ping, sent after [`PING`] of silence, within this time or is gone.
pub const H2_PONG_WAIT_MAX: Duration = Duration::from_secs(20);

/// What a shard reads requests through, in bytes. Those that came whole are answered from it; for others it is no limit.
pub const READ_BUFFER_BYTES: usize = 64 * 1024;

/// How long a request head may take to arrive, counted from the end of the one before: also how long a connection may be silent
/// between two requests. Slow attackers hold a connection no longer than this.
pub const HEAD_WAIT_MAX: Duration = Duration::from_secs(15);

/// How long a request body may take to arrive. 16 MiB in this time is 2.2 Mbit/s.
pub const BODY_WAIT_MAX: Duration = Duration::from_secs(60);

/// Setting `body-max`. A request body, in bytes; beyond it 413. Records are held in memory while they are made durable.
pub const BODY_BYTES_MAX_DEFAULT: usize = 16 * 1024 * 1024;

/// One catch-up answer, in bytes of records (or one record, if that is larger).
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// One catch-up answer, in records; the bound of `limit=`.
pub const ANSWER_RECORDS_MAX: usize = 10_000;

/// `timeout=`: proxies that cut at 60 s are common.
pub const LONG_POLL_WAIT_MAX: Duration = Duration::from_secs(60);

/// Setting `long-poll-timeout`. A long poll without `timeout=` waits so long: below the 30 s at which some proxies cut.
pub const LONG_POLL_WAIT_DEFAULT: Duration = Duration::from_secs(20);

/// `linger=`: later than this, news are not news.
pub const LINGER_MAX: Duration = Duration::from_secs(10);

/// An SSE comment after so long without a word: proxies cut silent connections at 30 to 60 s, and a dead one is noticed.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// `heartbeat=`, in seconds: rarer words would not tell of a cut in time.
pub const HEARTBEAT_SECONDS_MAX: u8 = 60;

/// A live read ends so long before its token does, or a tenth of what is left of it: time to come back with another one.
pub const EXPIRY_LEAD_MAX: Duration = Duration::from_secs(5);

/// A WebSocket is reminded so long before its token ends, or half of what is left of it, that it can be renewed in-band.
pub const EXPIRY_NOTICE_MAX: Duration = Duration::from_secs(30);

/// Streams that one page of a listing looks at, for those that may be seen: what is left is behind its `next`.
pub const LIST_LOOKED_AT_MAX: usize = 10_000;

/// A WebSocket ping after so long; a client that has sent nothing at all until the next one is gone.
pub const PING: Duration = Duration::from_secs(30);

/// Setting `stall-timeout`. A reader that takes no byte for so long is told goodbye (`too-slow`, with its offset) and let go: it can come back. As long
/// as a phone is out of reach in a tunnel.
pub const STALL_WAIT_DEFAULT: Duration = Duration::from_secs(120);

/// What the kernel may hold, in bytes, for a reader that is let go because it takes none: the frame that it is in the middle of, and the goodbye behind
/// that. If the frame is larger, the connection ends without one.
pub const LAST_WORDS_BYTES_MAX: usize = 256 * 1024;

/// How long the kernel may take to say that it has room for them: no client is waited for.
pub const LAST_WORDS_WAIT_MAX: Duration = Duration::from_secs(1);

/// What the kernel holds of unsent bytes for a reader, before the writer waits: bounds what a stalled reader costs.
pub const UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// What a reader of an event stream may send behind its request, in bytes: nothing is expected.
pub const STRAY_BYTES_MAX: u16 = 16 * 1024;

/// What is read of a client's next request while its long poll waits, in bytes: it is seen to go behind so much. A poll with a token fits.
pub const NEXT_REQUEST_BYTES_MAX: usize = 4 * 1024;

/// A client's WebSocket message, in bytes, after inflation, unless configured otherwise: as a request body.
pub const MESSAGE_BYTES_MAX_DEFAULT: usize = BODY_BYTES_MAX_DEFAULT;

/// Appends of one WebSocket that are not yet acknowledged; then it is not read until one is.
pub const APPENDS_UNACKNOWLEDGED_MAX: usize = 64;

/// The suggested wait before an `EventSource` reconnects, before jitter.
pub const RETRY_MS: u64 = 1_000;

/// How many different polls a shard knows the 304 of. All pollers of a stream that stand at its tail send the same bytes, so this is about as many streams.
pub const KNOWN_POLLS_MAX: usize = 64;

/// The longest request that is kept with its 304, in bytes. A browser's, with a token.
pub const KNOWN_POLL_BYTES_MAX: usize = 1024;

/// How long a 304 is given again without looking closer: its `Date` is no older, and all that the request is judged by is judged again.
pub const KNOWN_POLL_AGE_MAX: Duration = Duration::from_secs(1);

/// After an early refusal the rest of the request is read and dropped for so long, so that the client sees the refusal and not a reset.
pub const LINGERING_CLOSE_MAX: Duration = Duration::from_secs(2);

/// The same, in bytes.
pub const LINGERING_CLOSE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A member of `Stream-Ending`, in bytes of JSON: longer ones are told in the body only, since proxies bound what an answer's head may have.
pub const ENDING_MEMBER_BYTES_MAX: usize = 256;

/// A page of the list of streams.
pub const LIST_MAX: usize = 1_000;

/// The same, if the request does not say.
pub const LIST_DEFAULT: usize = 100;

/// The longest `Producer-Id` and `Stream-Seq`, in bytes. They are kept with the stream.
pub const PRODUCER_ID_BYTES_MAX: usize = 256;

/// The longest TTL, in seconds: 100 years, so that sums with the clock cannot overflow.
pub const TTL_SECONDS_MAX: u64 = 100 * 365 * 24 * 3600;

/// Accepted sockets waiting for their shard.
pub const HANDOVER_MAX: usize = 1_024;

/// Accepted sockets that a shard begins to serve in one turn. When all of its other tasks have had their turn, it is the next ones': so those who come in
/// a rush wait, and not those who are here.
pub const LET_IN_A_TURN: usize = 16;

/// Setting `connections-per-address`. Connections of one address at once: an IPv4 address, or an IPv6 /64, which is what one line is given. Beyond it
/// 429. A large office behind one address fits; one machine alone cannot take all places. Not for this machine itself, unless it is set.
pub const CONNECTIONS_PER_ADDRESS_DEFAULT: u32 = 1_000;

/// Setting `requests-per-address`. Requests of one address, in a second and at once; beyond it 429. Thousands of pollers behind one address fit,
/// and one address alone does not fill a core. Not for this machine itself, unless it is set.
pub const REQUESTS_PER_ADDRESS_DEFAULT: Rate = Rate::per_second(1_000, 5_000);

/// Setting `appends-per-address`. Appends of one address, in a second and at once, over HTTP and WebSocket together; beyond it 429. Each is a sync of
/// the disk, shared with others. Not for this machine itself, unless it is set.
pub const APPENDS_PER_ADDRESS_DEFAULT: Rate = Rate::per_second(500, 2_000);

/// Setting `connections-max`. Connections in all, unless it is set: what the limit of open files leaves, or this. Beyond it 503.
pub const CONNECTIONS_MAX_DEFAULT: usize = 100_000;

/// Setting `requests-per-token`. Requests of whom a token was given to, in a second and at once; beyond it 429. Not by default: whoever hands
/// out tokens knows what they are for, and all of a backend may share one.
pub const REQUESTS_PER_TOKEN_DEFAULT: Option<Rate> = None;

/// Setting `appends-per-token`. Appends of whom a token was given to, in a second and at once; beyond it 429. Not by default, for the same reason.
pub const APPENDS_PER_TOKEN_DEFAULT: Option<Rate> = None;

/// Setting `appends-per-stream`. Appends to one stream, whoever sends them, in a second and at once; beyond it 429. Not by default: a stream is as fast
/// as the disk. It is counted anew when nobody has used the stream for long.
pub const APPENDS_PER_STREAM_DEFAULT: Option<Rate> = None;

/// Setting `streams-max`. Streams in all, those of calls too; beyond it 429 for the next one. Not by default: a stream costs about 200 bytes of disk.
pub const STREAMS_MAX_DEFAULT: Option<u64> = None;

/// Setting `streams-per-token`. Streams that one token's subject has created and that are there, unless its token says `streams-max`; beyond it 429.
/// A token that says it and has no `sub` creates none: 403.
pub const STREAMS_PER_TOKEN_DEFAULT: Option<u64> = None;

/// Setting `bytes-per-token`. Records in the streams that one token's subject has created, in bytes, whoever appends them, unless the subject's own
/// token says `bytes-max`; beyond it 429 for appends. Not by default: `storage-max` bounds all together.
pub const BYTES_PER_TOKEN_DEFAULT: Option<u64> = None;

/// Setting `connections-per-token`. Reads that stay open (WebSocket, events, long polls) of whom a token was given to, at once; beyond it 429. Not by
/// default: all of a backend may share one.
pub const CONNECTIONS_PER_TOKEN_DEFAULT: Option<u32> = None;

/// Setting `storage-max`. What all streams take on the disk, in bytes, as measured each second or so; beyond it 507 for appends, creations and
/// calls, and a call that runs ends as failed (`storage-full`). Not by default: the disk's end is told as well. An engine in memory does not measure it.
pub const STORAGE_BYTES_MAX_DEFAULT: Option<u64> = None;

/// Streams and what is in them are counted anew so often while that is limited, since some expire by themselves, and retention drops records.
pub const QUOTA_RECOUNT: Duration = Duration::from_secs(60);

/// Before a stream or an append is refused by such a count it is made anew, but no more often: a listing of 100,000 streams takes about half a second.
pub const QUOTA_RECOUNT_MIN: Duration = Duration::from_secs(5);

/// Streams that are looked at in one go while they are counted: other work comes in between.
pub const QUOTA_PAGE_STREAMS: usize = 1_000;

/// Setting `record-max`. One record, in bytes; beyond it 413. Not by default: `body-max` bounds it.
pub const RECORD_BYTES_MAX_DEFAULT: Option<usize> = None;

/// Setting `batch-max`. Records of one append; beyond it 413. Not by default: never more than 100,000, since each costs some 40 bytes beside its own.
pub const BATCH_RECORDS_MAX_DEFAULT: Option<usize> = None;

/// Setting `bodies-max`. Bodies and WebSocket messages that have come in part, all together, in bytes; beyond it 503 and close code 1013. Without it
/// each connection could hold a whole body's worth. A buffer that grows may take twice as much for a moment.
pub const BODIES_BYTES_MAX_DEFAULT: usize = 256 * 1024 * 1024;

/// Setting `unsent-max`. What is held for readers that take no more at the moment, all together, in bytes. One that stalls beyond it is let go at
/// once and without a word, not only after `stall-timeout`: it has its offset and can come back.
pub const UNSENT_BYTES_TOTAL_MAX_DEFAULT: usize = 256 * 1024 * 1024;

/// Addresses, and tokens, that are remembered with what they may still do: about 150 bytes each. While so many are in use at once, whoever comes new
/// shares one account with all others who come new.
pub const CALLERS_MAX: usize = 65_536;

/// A PROXY header, in bytes. The text form has at most 107; this leaves room for the extensions that load balancers send.
pub const PROXY_HEADER_BYTES_MAX: usize = 1_024;

/// How long a PROXY header may take to arrive: a proxy sends it with its first packet.
pub const PROXY_HEADER_WAIT_MAX: Duration = Duration::from_secs(5);

/// What is read of `X-Forwarded-For` or `Forwarded`, in bytes. If there is more, the proxy itself is the caller.
pub const FORWARDED_BYTES_MAX: usize = 4 * 1024;

/// Proxies behind each other. If there are more, the proxy itself is the caller.
pub const FORWARDED_HOPS_MAX: usize = 32;
/// From so many connections on a drain says goodbye to one after the other, over a while, and not to all at once.
pub const PACED_CONNECTIONS_MIN: usize = 1_000;

/// Connections to the operator's listener at once; each is over within [`OPERATOR_WAIT_MAX`], and others wait for it.
pub const OPERATOR_CONNECTIONS_MAX: usize = 64;

/// The head of a request there, in bytes.
pub const OPERATOR_HEAD_BYTES_MAX: usize = 8 * 1024;

/// How long one request there may take, from the connection to the end of the answer.
pub const OPERATOR_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long a shard may take for a turn, or it counts as stuck.
pub const TURN_WAIT_MAX: Duration = Duration::from_secs(3);

/// How long an append may take to become durable and be read back, or the server counts as not ready.
pub const PROBE_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long such a proof counts for all who ask: a flood of questions costs one a second.
pub const PROBE_AGE_MAX: Duration = Duration::from_secs(1);

/// How many records of such proofs are kept. One is enough; a few tell whoever looks what was there.
pub const PROBE_RECORDS_MAX: u64 = 8;

/// Spans of traced appends that wait for the collector; each append has four. Those beyond are dropped, and the log says that, and at the end how many. At about 1 KB each.
pub const TRACE_SPANS_WAITING_MAX: usize = 2_048;

/// Spans that are sent to the collector at once.
pub const TRACE_SPANS_SENT_MAX: usize = 512;

/// How long the collector may take for those; then they are dropped. `OTEL_EXPORTER_OTLP_TIMEOUT` may say less.
pub const TRACE_EXPORT_WAIT_MAX: Duration = Duration::from_secs(10);

/// What is read of the collector's answer, in bytes.
pub const TRACE_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How long a server that ends waits for the spans that are left to be sent.
pub const TRACE_FLUSH_WAIT_MAX: Duration = Duration::from_secs(5);

/// The longest `tracestate` that is passed on, in bytes: as much as W3C wants to be; each span that waits holds one.
pub const TRACE_STATE_BYTES_MAX: usize = 512;
