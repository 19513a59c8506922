//! Every maximum of calls: what it bounds, its unit, and why it is what it is.

use std::time::Duration;

/// The longest name of a call, in bytes. It is part of URLs and log lines.
pub const NAME_BYTES_MAX: usize = 64;

/// Names of calls that one configuration may have.
pub const NAMES_MAX: usize = 1_000;

/// The longest `/rest` behind a call's name, in bytes, as it was sent.
pub const REST_BYTES_MAX: usize = 2_048;

/// The longest query that is passed on, in bytes, as it was sent. It is part of a program's environment.
pub const QUERY_BYTES_MAX: usize = 8_192;

/// The largest `body-bytes-max`: a call's body is held in memory whole until it has been sent on.
pub const BODY_BYTES_LIMIT: u64 = 64 * 1024 * 1024;

/// The largest `portion-bytes-max`: a record that is not whole yet is held in memory.
pub const PORTION_BYTES_LIMIT: u64 = 16 * 1024 * 1024;

/// The largest `bytes-max`: beyond it a typing error is more likely than a wish.
pub const BYTES_LIMIT: u64 = 1024 * 1024 * 1024 * 1024;

/// The longest time that a timeout of a call may be.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(2_592_000);

/// The longest `keep`.
pub const KEEP_MAX: Duration = Duration::from_secs(31_536_000);

/// Calls that run at once unless the configuration says otherwise: each costs a socket or three pipes.
pub const CALLS_MAX_DEFAULT: usize = 1_000;

/// The most calls at once that may be configured.
pub const CALLS_LIMIT: usize = 100_000;

/// A portion of a body that is neither JSON nor an event stream, in bytes: larger reads are cut.
pub const PORTION_BYTES: usize = 64 * 1024;

/// The head of an upstream's answer, in bytes, and what is read of its body at once: about what a pipe or a socket gives in one piece.
pub const UPSTREAM_BUFFER_BYTES: usize = 64 * 1024;

/// What the kernel may hold of an upstream's body that is not read yet, in bytes: left to itself it would take 6 MiB for each call that stands still.
pub const UPSTREAM_KERNEL_BYTES: u32 = 256 * 1024;

/// Addresses of an upstream's host that are tried, one after the other.
pub const ADDRESSES_MAX: usize = 4;

/// Names in each of `pass-headers`, `keep-headers`, `headers`, `environment` and `origins`.
pub const NAMED_MAX: usize = 64;

/// The longest kept value of a header of the answer, in bytes: it is part of the ending. What is longer is cut.
pub const KEPT_HEADER_BYTES_MAX: usize = 1_024;

/// What is kept of a program's standard error, in bytes, its last ones: an ending is in memory with its stream.
pub const STDERR_BYTES_MAX: usize = 4_096;

/// How long a program that was killed is waited for: only one that the kernel holds on to takes so long.
pub const KILLED_WAIT: Duration = Duration::from_secs(5);

/// How long what a program's end has left in its pipe of standard error is waited for.
pub const STDERR_WAIT: Duration = Duration::from_millis(250);

/// Idempotency keys that are remembered, about 200 bytes each; the oldest is forgotten first.
pub const KEYS_MAX: usize = 100_000;

/// The longest idempotency key, in bytes.
pub const KEY_BYTES_MAX: usize = 255;

/// What a call has read and not written yet, in bytes, while an append of at most as much is under way; then its target waits. One portion may pass it.
pub const GATHERED_BYTES_MAX: usize = 128 * 1024;

/// The same, in records: small ones cost more than their bytes.
pub const GATHERED_RECORDS_MAX: usize = 4_096;

/// How a call ended, in bytes of JSON: it is in memory with its stream.
pub const ENDING_BYTES_MAX: usize = 6 * 1024;

/// Streams that one request for the list of calls looks at, to find those of a name.
pub const LOOKED_AT_MAX: usize = 10_000;
