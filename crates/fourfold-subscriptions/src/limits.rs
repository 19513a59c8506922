//! Every maximum of subscriptions: what it bounds, its unit, and why it is what it is.

use std::time::Duration;

/// Subscriptions of a server. Each that matches a stream is looked at when the stream moves.
pub const SUBSCRIPTIONS_MAX: usize = 1_000;

/// Streams of one subscription. Their cursors are in memory, about 300 bytes each, and on disk.
pub const LINKS_MAX: usize = 10_000;

/// Streams in one wake. Those beyond come with the next wake.
pub const WAKE_STREAMS_MAX: usize = 1_000;

/// The longest subscription id, in bytes. It is part of URLs, tokens and log lines.
pub const ID_BYTES_MAX: usize = 128;

/// The longest description, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 1_024;

/// The longest worker name, in bytes.
pub const WORKER_BYTES_MAX: usize = 256;

/// The longest webhook URL, in bytes.
pub const WEBHOOK_URL_BYTES_MAX: usize = 2_048;

/// The body of a control request, in bytes: acks for a wake of long names fit.
pub const CONTROL_BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The shortest `lease_ttl_ms`. Spec: "Create or Re-confirm a Subscription".
pub const LEASE_MS_MIN: u64 = 1_000;

/// The longest `lease_ttl_ms`: what a dead worker delays its streams by.
pub const LEASE_MS_MAX: u64 = 600_000;

/// `lease_ttl_ms` of a subscription that does not say.
pub const LEASE_MS_DEFAULT: u64 = 30_000;

/// Webhook requests under way at once, all subscriptions together; the others wait their turn.
pub const DELIVERIES_MAX: usize = 64;

/// A webhook that has not answered after so long has failed, however it extends its lease meanwhile.
pub const WEBHOOK_WAIT_MAX: Duration = Duration::from_secs(30);

/// A webhook's answer, in bytes. What is asked for is `{"done":true}`.
pub const WEBHOOK_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The first wait before a failed delivery is tried again, in milliseconds, before jitter. Spec: "Webhook Delivery and Callback".
pub const RETRY_MS_MIN: u64 = 1_000;

/// The longest, in milliseconds, before jitter.
pub const RETRY_MS_MAX: u64 = 60_000;

/// How long a callback or claim token is taken, however often its lease is extended.
pub const TOKEN_LIFE: Duration = Duration::from_secs(86_400);

/// Streams that moved and that a subscription has not looked at yet. One that is behind by more looks at all of its streams.
pub const MOVED_MAX: usize = 4_096;

/// Changes of a subscription between two summaries of its state on disk, beside one for each of its streams.
pub const CHANGES_MAX: usize = 1_000;
