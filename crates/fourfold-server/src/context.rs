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

use http::HeaderMap;

use crate::{
    Settings,
    bookmark::Bookmarks,
    caller::{Caller, Connected},
    known_polls::KnownPolls,
    limits::Limits,
    quota::Quota,
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
    pub(crate) limits: Arc<Limits>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) quota: Arc<Quota>,
    pub(crate) bookmarks: Arc<Bookmarks>,
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

/// A connection's place among those that are counted, and who it is.
#[derive(Debug)]
pub(crate) struct Seat {
    _place: Place,
    peer: Connected,
    /// There if the peer is a proxy that may say for whom it asks.
    behind: Option<Box<Behind>>,
    /// Where it is counted, and as what, once it has come to its shard.
    tallied: Option<Tallied>,
}

/// For whom a proxy asks at present.
#[derive(Debug)]
struct Behind {
    caller: Arc<Caller>,
    /// Counts a read that stays among the connections of whom it is for.
    held: Option<Connected>,
}

/// A connection as it is counted.
#[derive(Debug)]
struct Tallied(Arc<Tally>, Way);

/// A place among all connections.
#[derive(Debug)]
pub(crate) struct Place(Arc<Drain>);

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

    /// A place, unless `max` are taken.
    pub(crate) fn place(self: &Arc<Self>, max: usize) -> Option<Place> {
        let place = Place(Arc::clone(self));
        // Counted before it is judged; an unfit place gives itself back.
        (self.connections.fetch_add(1, SeqCst) < max).then_some(place)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

impl Seat {
    pub(crate) fn new(place: Place, peer: Connected) -> Self {
        Self { _place: place, peer, behind: None, tallied: None }
    }

    /// Of a peer that was announced by the one that connected.
    pub(crate) fn announced(self, peer: Connected) -> Self {
        Self { peer, ..self }
    }

    /// Who is connected.
    pub(crate) fn peer(&self) -> &Arc<Caller> {
        self.peer.account()
    }

    /// Who asks at present: the peer, or for whom it asks.
    pub(crate) fn caller(&self) -> &Arc<Caller> {
        self.behind.as_ref().map_or_else(|| self.peer.account(), |behind| &behind.caller)
    }

    /// A request begins, with these headers.
    pub(crate) fn asks(&mut self, headers: &HeaderMap, limits: &Limits) {
        if self.peer().is_proxy() {
            let caller = limits.caller_of(headers, self.peer());
            match &mut self.behind {
                Some(behind) => behind.caller = caller,
                none => *none = Some(Box::new(Behind { caller, held: None })),
            }
        }
    }

    /// What was asked for is a read that stays, for this caller. Errors: it has as many connections as it may have.
    pub(crate) fn hold(&mut self, limits: &Limits) -> Result<(), Refusal> {
        if let Some(behind) = &mut self.behind {
            behind.held = Some(limits.connect(&behind.caller)?);
        }
        Ok(())
    }

    /// The same, once it was counted.
    pub(crate) fn held_for(&mut self, caller: Arc<Caller>, held: Connected) {
        self.behind = Some(Box::new(Behind { caller, held: Some(held) }));
    }

    /// The read is over, and the next request may be somebody else's.
    pub(crate) fn release(&mut self) {
        if let Some(behind) = &mut self.behind {
            behind.held = None;
        }
    }

    /// What the connection is used for from now on.
    pub(crate) fn becomes(&mut self, way: Way, tally: &Arc<Tally>) {
        match &mut self.tallied {
            Some(Tallied(tally, was)) => {
                tally.lets_go(std::mem::replace(was, way));
                tally.holds(way);
            }
            none => {
                tally.holds(way);
                *none = Some(Tallied(Arc::clone(tally), way));
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn alone(drain: &Arc<Drain>) -> Self {
        let limits = Limits::new(crate::LimitOptions::default());
        let peer = limits.connect(&limits.peer(std::net::Ipv4Addr::LOCALHOST.into()));
        Self::new(drain.place(usize::MAX).expect("there is room"), peer.expect("there is room"))
    }
}

impl Drop for Tallied {
    fn drop(&mut self) {
        self.0.lets_go(self.1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.0.connections.fetch_sub(1, SeqCst) == 1 {
            self.0.emptied.notify_waiters();
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
