//! What every connection of a shard shares.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use fourfold_calls::Calls;
use fourfold_protocol::{Code, Refusal, StreamName};
use fourfold_stream::{Engine, OpenError, Shard, Stream, Unavailable};
use fourfold_subscriptions::Subscriptions;
use tokio::sync::Notify;

use crate::{
    Settings,
    known_polls::KnownPolls,
    tally::{Tally, Way},
};

/// One a shard.
pub(crate) struct Context {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) shard: Shard,
    pub(crate) settings: Arc<Settings>,
    pub(crate) drain: Arc<Drain>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) calls: Calls,
    pub(crate) polls: KnownPolls,
    pub(crate) tally: Arc<Tally>,
}

/// Whether the server is about to stop.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    begun: AtomicBool,
    /// Over how many milliseconds goodbyes are said.
    pace_ms: AtomicU64,
    /// Wakes idle HTTP connections; live readers are woken through their streams.
    pub(crate) beginning: Notify,
    connections: AtomicUsize,
    pub(crate) emptied: Notify,
}

/// A connection's place among those that are counted.
#[derive(Debug)]
pub(crate) struct Seat {
    drain: Arc<Drain>,
    /// Where it is counted, and as what, once it has come to its shard.
    held: Option<(Arc<Tally>, Way)>,
}

impl Drain {
    pub(crate) fn begun(&self) -> bool {
        self.begun.load(SeqCst)
    }

    /// From now on everybody is sent away, over such a time.
    pub(crate) fn begin(&self, pace: Duration) {
        self.pace_ms.store(u64::try_from(pace.as_millis()).unwrap_or(u64::MAX), SeqCst);
        self.begun.store(true, SeqCst);
        self.beginning.notify_waiters();
    }

    /// Waits for the moment of one reader's goodbye.
    pub(crate) async fn turn(&self) {
        match self.pace_ms.load(SeqCst) {
            0 => {}
            pace_ms => tokio::time::sleep(Duration::from_millis(fastrand::u64(0..pace_ms))).await,
        }
    }

    /// A seat, unless `max` are taken.
    pub(crate) fn seat(self: &Arc<Self>, max: usize) -> Option<Seat> {
        let seat = Seat { drain: Arc::clone(self), held: None };
        // Counted before it is judged; an unfit seat gives itself back.
        (self.connections.fetch_add(1, SeqCst) < max).then_some(seat)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

impl Seat {
    /// What the connection is used for from now on.
    pub(crate) fn becomes(&mut self, way: Way, tally: &Arc<Tally>) {
        match &mut self.held {
            Some((tally, was)) => {
                tally.lets_go(std::mem::replace(was, way));
                tally.holds(way);
            }
            none => {
                tally.holds(way);
                *none = Some((Arc::clone(tally), way));
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some((tally, way)) = &self.held {
            tally.lets_go(*way);
        }
        if self.drain.connections.fetch_sub(1, SeqCst) == 1 {
            self.drain.emptied.notify_waiters();
        }
    }
}

impl Context {
    /// The stream, or why not.
    pub(crate) async fn open(&self, name: &StreamName) -> Result<Arc<Stream>, Refusal> {
        self.engine.open(name).await.map_err(|e| match e {
            OpenError::NotFound => not_found(name),
            OpenError::Gone => gone(name),
            OpenError::Unavailable(why) => unavailable(&why),
        })
    }

    /// When a client that is sent away should come back, in milliseconds.
    pub(crate) fn come_back_ms(&self) -> u64 {
        let spread = u64::try_from(self.settings.drain_spread.as_millis()).unwrap_or(u64::MAX);
        fastrand::u64(0..=spread).saturating_add(COME_BACK_MS_MIN)
    }
}

/// A restart takes at least so long: earlier reconnects would only fail.
const COME_BACK_MS_MIN: u64 = 500;

pub(crate) fn not_found(name: &StreamName) -> Refusal {
    Refusal::new(Code::StreamNotFound, format!("there is no stream '{name}': create it with PUT"))
}

pub(crate) fn gone(name: &StreamName) -> Refusal {
    Refusal::new(Code::StreamGone, format!("'{name}' was deleted or has expired: only its forks can still be read"))
}

pub(crate) fn unavailable(why: &Unavailable) -> Refusal {
    match why {
        Unavailable::Full => Refusal::new(
            Code::StorageFull,
            "the server's disk is full: nothing was appended; try again when there is room",
        )
        .with("retryAfter", RETRY_AFTER_FULL.as_secs()),
        Unavailable::Overloaded => {
            Refusal::new(Code::Overloaded, "too many appends are waiting: nothing was appended; try again")
                .with("retryAfter", RETRY_AFTER_OVERLOADED.as_secs())
        }
        Unavailable::Failed(text) => {
            // What failed is for the operator; a client gets to know that it was not its fault.
            tracing::error!(error = text, "the engine failed");
            Refusal::new(
                Code::Internal,
                "the server could not do it; whether it was done is not known. Read the stream's tail, or append as an idempotent producer, and try again",
            )
        }
    }
}

const RETRY_AFTER_FULL: Duration = Duration::from_secs(5);
const RETRY_AFTER_OVERLOADED: Duration = Duration::from_secs(1);
