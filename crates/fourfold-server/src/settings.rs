//! What may be configured, checked, with defaults.

use std::{sync::Arc, time::Duration};

use crate::{
    Access, CallOptions, Extra, LimitOptions, Origins, SubscriptionOptions, Tls, Traces,
    limits::{BODY_BYTES_MAX_DEFAULT, BODY_WAIT_MAX, HEAD_WAIT_MAX, LONG_POLL_WAIT_DEFAULT},
};

/// The server's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a long poll waits if it does not say.
    pub long_poll_timeout: Duration,
    /// The largest request body and WebSocket message, in bytes.
    pub body_bytes_max: usize,
    /// How long a request head may take to arrive, and a connection may be silent between two requests.
    pub head_wait_max: Duration,
    /// How long a request body may take to arrive.
    pub body_wait_max: Duration,
    /// How much anybody may have, and do; also all together.
    pub limits: LimitOptions,
    /// After a goodbye, connections that have not ended by themselves are cut after so long.
    pub drain_deadline: Duration,
    /// Goodbyes ask clients to come back spread over so long.
    pub drain_spread: Duration,
    /// How webhooks of subscriptions are delivered.
    pub subscriptions: SubscriptionOptions,
    /// Which calls there are, and how many at once.
    pub calls: CallOptions,
    /// Who may do what. By default everybody may do everything.
    pub access: Access,
    /// From which pages of other hosts requests may come.
    pub origins: Origins,
    /// Speak TLS, and only TLS, with this certificate.
    pub tls: Option<Tls>,
    /// Who traces appends.
    pub traces: Traces,
    /// Answers beside the streams.
    pub extra: Option<Arc<dyn Extra>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            long_poll_timeout: LONG_POLL_WAIT_DEFAULT,
            body_bytes_max: BODY_BYTES_MAX_DEFAULT,
            head_wait_max: HEAD_WAIT_MAX,
            body_wait_max: BODY_WAIT_MAX,
            limits: LimitOptions::default(),
            drain_deadline: Duration::from_secs(10),
            drain_spread: Duration::from_secs(5),
            subscriptions: SubscriptionOptions::default(),
            calls: CallOptions::default(),
            access: Access::open(),
            origins: Origins::default(),
            tls: None,
            traces: Traces::default(),
            extra: None,
        }
    }
}
