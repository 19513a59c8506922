//! Every maximum of access: what it bounds, its unit, and why it is what it is.

use std::time::Duration;

/// The longest token, in bytes. Real ones have 300 to 2,000; all headers of a request together have at most four times as much.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// How deep the claims of a token may nest. Ours are arrays in an object; identity providers add an object or two.
pub const CLAIMS_DEPTH_MAX: usize = 8;

/// Claims of a token.
pub const CLAIMS_MAX: usize = 100;

/// Patterns of a token, of all verbs together. Those of the verb are tried one after the other.
pub const TOKEN_PATTERNS_MAX: usize = 100;

/// Patterns of a section of rules in the configuration, of all verbs together.
pub const RULES_MAX: usize = 1_000;

/// The longest `kid`, in bytes.
pub const KID_BYTES_MAX: usize = 256;

/// Keys, and sources of keys, in the configuration.
pub const KEYS_MAX: usize = 32;

/// Keys that are tried for a token that does not name one: each costs a check of a signature.
pub const KEYS_TRIED_MAX: usize = 16;

/// Accepted values of `aud`.
pub const AUDIENCES_MAX: usize = 16;

/// The shortest secret of HS256, in bytes: as many as its hash has. Those of HS384 and HS512 have 48 and 64.
pub const SECRET_BYTES_MIN: usize = 32;

/// The longest secret, or key in PEM, in bytes.
pub const KEY_BYTES_MAX: usize = 16 * 1024;

/// How far apart two clocks may be. More hides a clock that is wrong.
pub const LEEWAY_MAX: Duration = Duration::from_secs(300);

/// Verified tokens that are remembered, so that the next request with one costs no check of its signature.
pub const TOKENS_MAX: usize = 20_000;

/// The same, in bytes of memory, about.
pub const TOKENS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A set of keys that is fetched, in bytes. Those of large providers have 10 KiB.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;

/// Keys that are taken of a set.
pub const JWKS_KEYS_MAX: usize = 64;

/// How long a fetch of keys may take, and how long a request waits for one.
pub const JWKS_WAIT_MAX: Duration = Duration::from_secs(5);

/// The longest pause after a fetch that failed; the first is a second, and each is twice as long as the one before.
pub const JWKS_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Questions to the hook that are under way at once. Those beyond wait, within their deadline.
pub const HOOK_AT_ONCE: usize = 64;

/// The longest deadline of the hook: somebody waits.
pub const HOOK_DEADLINE_MAX: Duration = Duration::from_secs(30);

/// The longest time that an answer of the hook may hold.
pub const HOOK_CACHE_MAX: Duration = Duration::from_secs(3600);

/// How long it is held against the hook that it did not answer: so long, the same question is not put again.
pub const HOOK_PAUSE: Duration = Duration::from_millis(500);

/// The largest answer of the hook, in bytes, and its head.
pub const HOOK_BYTES_MAX: usize = 16 * 1024;

/// Answers of the hook that are remembered.
pub const ANSWERS_MAX: usize = 20_000;

/// The same, in bytes of memory, about.
pub const ANSWERS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Addresses of a backend's host that are tried, one after the other.
pub const ADDRESSES_MAX: usize = 4;
