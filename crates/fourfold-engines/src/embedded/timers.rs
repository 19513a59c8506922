//! What is known of hot streams' clocks without asking the committer: whether anything can be due, and the last use.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use fourfold_protocol::{Epoch, StreamName};
use fourfold_stream::{Stream, StreamConfig};

/// The clocks of hot streams that expire or drop by age.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    timers: Mutex<HashMap<Epoch, Timer, foldhash::fast::RandomState>>,
}

/// One stream's clock.
#[derive(Clone, Debug)]
pub(crate) struct Timer {
    pub(crate) name: StreamName,
    pub(crate) ttl_ms: Option<u64>,
    /// The last use.
    pub(crate) used_ms: u64,
    /// The last use that is stored.
    pub(crate) saved_ms: u64,
    /// Nothing is due before; 0 for never.
    pub(crate) look_ms: u64,
}

impl Timer {
    /// The use is worth storing: a tenth of the TTL is what a restart may forget.
    pub(crate) fn lags(&self) -> bool {
        self.ttl_ms.is_some_and(|ttl| self.used_ms.saturating_sub(self.saved_ms) >= ttl / 10)
            && self.used_ms > self.saved_ms
    }
}

/// Whether a stream has a clock at all.
pub(crate) fn timed(config: &StreamConfig) -> bool {
    config.ttl_seconds.is_some() || config.expires_at_ms.is_some() || config.retention.age_seconds.is_some()
}

impl Timers {
    /// Nothing can be due at the stream.
    pub(crate) fn quiet(&self, stream: &Stream, now_ms: u64) -> bool {
        let quiet = |timer: &Timer| timer.look_ms == 0 || now_ms < timer.look_ms;
        !timed(stream.config()) || self.timers().get(&stream.epoch()).is_some_and(quiet)
    }

    pub(crate) fn renew(&self, stream: &Stream, now_ms: u64) {
        if let Some(timer) = self.timers().get_mut(&stream.epoch()) {
            timer.used_ms = timer.used_ms.max(now_ms);
        }
    }

    pub(crate) fn used_ms(&self, epoch: Epoch) -> u64 {
        self.timers().get(&epoch).map_or(0, |timer| timer.used_ms)
    }

    /// The committer has stored this.
    pub(crate) fn set(&self, epoch: Epoch, name: &StreamName, config: &StreamConfig, saved_ms: u64, look_ms: u64) {
        if timed(config) {
            let mut timers = self.timers();
            let timer = timers.entry(epoch).or_insert_with(|| Timer {
                name: name.clone(),
                ttl_ms: config.ttl_seconds.map(|ttl| ttl.saturating_mul(1000)),
                used_ms: saved_ms,
                saved_ms,
                look_ms,
            });
            timer.used_ms = timer.used_ms.max(saved_ms);
            (timer.saved_ms, timer.look_ms) = (saved_ms, look_ms);
        }
    }

    pub(crate) fn forget(&self, epoch: Epoch) {
        self.timers().remove(&epoch);
    }

    /// Those with a TTL.
    pub(crate) fn idle(&self) -> Vec<(Epoch, Timer)> {
        let timers = self.timers();
        timers.iter().map(|(epoch, timer)| (*epoch, timer.clone())).collect()
    }

    fn timers(&self) -> MutexGuard<'_, HashMap<Epoch, Timer, foldhash::fast::RandomState>> {
        self.timers.lock().expect("no code panics while it holds the timers")
    }
}
