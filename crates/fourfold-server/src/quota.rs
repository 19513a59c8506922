//! How many streams there are, of whom, and whether they take all of the disk that they may.
//!
//! ```text
//! at the start, and every minute   counted by the listing, since streams also expire by themselves
//! in between                       one more for each that is created, one less for each that is deleted
//! every second                     what the engine takes on the disk
//! ```
//!
//! Whose a stream is stands in its note: the subject of the token that created it. While no limit of these is in force nothing is counted.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use fourfold_access::Who;
use fourfold_protocol::{Code, Refusal, StreamName};
use fourfold_stream::{Engine, OpenError, StreamConfig, Unavailable};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::limits::{LimitOptions, Limits, QUOTA_PAGE_STREAMS, QUOTA_RECOUNT};

/// What has been used of these limits. One for all shards.
#[derive(Debug, Default)]
pub(crate) struct Quota {
    counted: Mutex<Counted>,
    disk_bytes: AtomicU64,
    /// The disk that streams may take is taken.
    is_full: AtomicBool,
}

#[derive(Debug, Default)]
struct Counted {
    /// Not yet, if it is not there.
    at: Option<Instant>,
    streams: u64,
    /// By a hash of the subject.
    of: HashMap<u64, u64, foldhash::fast::FixedState>,
}

impl Counted {
    fn count(&mut self, owner: Option<u64>, by: i64) {
        self.streams = self.streams.saturating_add_signed(by);
        if let Some(owner) = owner {
            let streams = self.of.entry(owner).or_default();
            *streams = streams.saturating_add_signed(by);
            if *streams == 0 {
                self.of.remove(&owner);
            }
        }
    }
}

impl Quota {
    /// Keeps the counts true, for as long as it is polled.
    pub(crate) async fn keep(&self, engine: &dyn Engine, limits: &Limits) {
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            seconds.tick().await;
            let options = limits.options();
            if let Some(max) = options.storage_bytes_max {
                let taken = engine.stats().map_or(0, |stats| stats.disk_bytes);
                self.disk_bytes.store(taken, Relaxed);
                self.is_full.store(taken >= max, Relaxed);
            } else {
                self.is_full.store(false, Relaxed);
            }
            let is_due = self.counted().at.is_none_or(|at| at.elapsed() >= QUOTA_RECOUNT);
            if counts(&options)
                && is_due
                && let Err(why) = self.recount(engine).await
            {
                tracing::warn!(%why, "the streams could not be counted");
            }
        }
    }

    /// Counts all streams. What is created or deleted meanwhile may be missed until the next time.
    pub(crate) async fn recount(&self, engine: &dyn Engine) -> Result<(), Unavailable> {
        let mut counted = Counted::default();
        let mut after: Option<String> = None;
        loop {
            let page = engine.list("", after.as_deref(), QUOTA_PAGE_STREAMS).await?;
            for listed in page.streams.iter().filter(|listed| !listed.name.is_reserved()) {
                counted.count(owner(&listed.config), 1);
            }
            after = page.streams.last().map(|last| last.name.as_str().to_owned());
            if !page.more {
                break;
            }
        }
        counted.at = Some(Instant::now());
        *self.counted() = counted;
        Ok(())
    }

    /// Whether `who` may create one more. One that is there already is none more.
    ///
    /// Errors: there are as many as there may be, in all or of theirs.
    pub(crate) async fn may_create(
        &self,
        who: &Who,
        name: &StreamName,
        engine: &dyn Engine,
        options: &LimitOptions,
    ) -> Result<(), Refusal> {
        if !counts(options) && who.streams_max().is_none() {
            return Ok(());
        }
        if self.counted().at.is_none() {
            // A token says how many, and nobody has counted.
            self.recount(engine).await.map_err(|why| crate::context::unavailable(&why))?;
        }
        let full = {
            let counted = self.counted();
            let of_theirs = key(who).map_or(0, |owner| counted.of.get(&owner).copied().unwrap_or(0));
            let theirs = who.streams_max().or(options.streams_per_token.filter(|_| key(who).is_some()));
            match (options.streams_max, theirs) {
                (Some(max), _) if counted.streams >= max => Some(("streams-max", max)),
                (_, Some(max)) if of_theirs >= max => Some(("streams-per-token", max)),
                _ => None,
            }
        };
        match full {
            Some((limit, max)) if matches!(engine.open(name).await, Err(OpenError::NotFound)) => {
                let detail = format!("{limit} is {max}: delete a stream, or let some expire");
                Err(Refusal::new(Code::TooManyStreams, detail)
                    .with("limit", limit)
                    .with("max", max)
                    .with("retryAfter", QUOTA_RECOUNT.as_secs()))
            }
            _ => Ok(()),
        }
    }

    /// One more, created by whom its note says.
    pub(crate) fn created(&self, config: &StreamConfig) {
        self.count(config, 1);
    }

    /// One less.
    pub(crate) fn deleted(&self, config: &StreamConfig) {
        self.count(config, -1);
    }

    fn count(&self, config: &StreamConfig, by: i64) {
        let mut counted = self.counted();
        if counted.at.is_some() {
            counted.count(owner(config), by);
        }
    }

    /// Whether there is room for more records. Errors: streams take what they may.
    pub(crate) fn has_room(&self) -> Result<(), Refusal> {
        if !self.is_full.load(Relaxed) {
            return Ok(());
        }
        let taken = self.disk_bytes.load(Relaxed);
        let detail = format!(
            "the streams take {taken} bytes, all that storage-max gives them: nothing was appended; delete some, or let some expire"
        );
        Err(Refusal::new(Code::StorageFull, detail).with("limit", "storage-max").with("retryAfter", 5))
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().expect("no code panics while it holds the counts")
    }
}

fn counts(options: &LimitOptions) -> bool {
    options.streams_max.or(options.streams_per_token).is_some()
}

/// What a new stream's note says of who created it.
pub(crate) fn note(who: &Who) -> Option<String> {
    who.subject().map(|subject| json!({ OWNER: subject }).to_string())
}

const OWNER: &str = "owner";

fn key(who: &Who) -> Option<u64> {
    who.subject().map(hash)
}

fn owner(config: &StreamConfig) -> Option<u64> {
    let note: Value = serde_json::from_str(config.note.as_deref()?).ok()?;
    note.get(OWNER)?.as_str().map(hash)
}

fn hash(subject: &str) -> u64 {
    foldhash::fast::FixedState::default().hash_one(subject)
}
