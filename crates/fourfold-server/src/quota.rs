//! How many streams there are, of whom, how much is in them, and whether they take all of the disk that they may.
//!
//! ```text
//! at the start, and every minute   counted by the listing, since streams also expire by themselves, and retention drops records
//! in between                       one more for each that is created, one less for each that is deleted; the bytes of each append
//! before a refusal                 counted anew, unless that was done a moment ago
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
use fourfold_stream::{Engine, OpenError, Stream, StreamConfig, Unavailable};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::limits::{LimitOptions, Limits, QUOTA_PAGE_STREAMS, QUOTA_RECOUNT, QUOTA_RECOUNT_MIN};

/// What has been used of these limits. One for all shards.
#[derive(Debug, Default)]
pub(crate) struct Quota {
    counted: Mutex<Counted>,
    /// Held by who counts anew: others wait for what comes of it.
    counting: tokio::sync::Mutex<()>,
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
    of: HashMap<u64, Owned, foldhash::fast::FixedState>,
}

/// What one subject has.
#[derive(Clone, Copy, Debug, Default)]
struct Owned {
    streams: u64,
    /// Of records.
    bytes: u64,
}

impl Counted {
    fn count(&mut self, owner: Option<u64>, streams: i64, bytes: u64) {
        self.streams = self.streams.saturating_add_signed(streams);
        if let Some(owner) = owner {
            let owned = self.of.entry(owner).or_default();
            owned.streams = owned.streams.saturating_add_signed(streams);
            owned.bytes = owned.bytes.saturating_add(bytes);
            if owned.streams == 0 {
                self.of.remove(&owner); // With the last stream the bytes have gone.
            }
        }
    }

    fn of(&self, owner: Option<u64>) -> Owned {
        owner.and_then(|owner| self.of.get(&owner).copied()).unwrap_or_default()
    }
}

/// An append's place in what its stream's owner may have, where that is limited.
#[derive(Debug)]
pub(crate) struct Room {
    owner: u64,
    bytes: u64,
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
            let is_due = match self.counted().at {
                Some(at) => at.elapsed() >= QUOTA_RECOUNT, // Also where only a token has asked for it.
                None => counts(&options),
            };
            if is_due && let Err(why) = self.recount(engine).await {
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
                counted.count(owner(&listed.config), 1, listed.bytes);
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

    /// Counts anew, unless somebody has a moment ago.
    async fn refresh(&self, engine: &dyn Engine) -> Result<(), Refusal> {
        let _turn = self.counting.lock().await;
        if self.counted().at.is_none_or(|at| at.elapsed() >= QUOTA_RECOUNT_MIN) {
            self.recount(engine).await.map_err(|why| crate::context::unavailable(&why))?;
        }
        Ok(())
    }

    /// Whether `who` may create one more, with so many bytes of records in it. One that is there already is none more.
    ///
    /// Errors: there are as many as there may be, in all or of theirs, or theirs take as much as they may.
    pub(crate) async fn may_create(
        &self,
        who: &Who,
        name: &StreamName,
        bytes: u64,
        engine: &dyn Engine,
        options: &LimitOptions,
    ) -> Result<(), Refusal> {
        if !counts(options) && who.streams_max().or(who.bytes_max()).is_none() {
            return Ok(());
        }
        let fits = self.counted().at.is_some() && self.fits(who, bytes, options).is_ok();
        if fits || !matches!(engine.open(name).await, Err(OpenError::NotFound)) {
            return Ok(());
        }
        self.refresh(engine).await?;
        self.fits(who, bytes, options)
    }

    fn fits(&self, who: &Who, bytes: u64, options: &LimitOptions) -> Result<(), Refusal> {
        let counted = self.counted();
        let theirs = counted.of(key(who));
        let of_theirs = |setting: Option<u64>| setting.filter(|_| key(who).is_some());
        let streams_max = who.streams_max().or(of_theirs(options.streams_per_token));
        let bytes_max = who.bytes_max().or(of_theirs(options.bytes_per_token));
        match options.streams_max {
            Some(max) if counted.streams >= max => return Err(too_many_streams("streams-max", max)),
            _ => {}
        }
        match (streams_max, bytes_max) {
            (Some(max), _) if theirs.streams >= max => Err(too_many_streams("streams-per-token", max)),
            (_, Some(max)) if bytes > 0 && theirs.bytes.saturating_add(bytes) > max => Err(too_many_bytes(max)),
            _ => Ok(()),
        }
    }

    /// One more, created by whom its note says, with so many bytes of records in it.
    pub(crate) fn created(&self, config: &StreamConfig, bytes: u64) {
        self.count(config, 1, bytes);
    }

    /// One less. What its records took is known when it is counted anew.
    pub(crate) fn deleted(&self, config: &StreamConfig) {
        self.count(config, -1, 0);
    }

    fn count(&self, config: &StreamConfig, streams: i64, bytes: u64) {
        let mut counted = self.counted();
        if counted.at.is_some() {
            counted.count(owner(config), streams, bytes);
        }
    }

    /// Sees to it that [`take`](Self::take) refuses nothing for which there is room by now. Costs a load or two where nothing of it is limited.
    ///
    /// Errors: the streams could not be counted.
    pub(crate) async fn look(
        &self,
        who: &Who,
        stream: &Stream,
        bytes: u64,
        engine: &dyn Engine,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        if let Some((owner, max)) = bytes_max(who, stream, limits) {
            let is_known = {
                let counted = self.counted();
                counted.at.is_some() && counted.of(Some(owner)).bytes.saturating_add(bytes) <= max
            };
            if !is_known {
                Box::pin(self.refresh(engine)).await?; // Boxed: hardly an append waits for it.
            }
        }
        Ok(())
    }

    /// Takes room for an append of so many bytes from what the stream's owner may have. It stays taken, unless it is given back.
    ///
    /// Errors: there is not so much left.
    pub(crate) fn take(
        &self,
        who: &Who,
        stream: &Stream,
        bytes: u64,
        limits: &Limits,
    ) -> Result<Option<Room>, Refusal> {
        let Some((owner, max)) = bytes_max(who, stream, limits).filter(|_| bytes > 0) else { return Ok(None) };
        let mut counted = self.counted();
        let taken = counted.of(Some(owner)).bytes.saturating_add(bytes);
        if taken > max {
            return Err(too_many_bytes(max));
        }
        counted.of.entry(owner).or_default().bytes = taken;
        Ok(Some(Room { owner, bytes }))
    }

    /// Of an append that added nothing.
    pub(crate) fn give_back(&self, room: &Room) {
        if let Some(owned) = self.counted().of.get_mut(&room.owner) {
            owned.bytes = owned.bytes.saturating_sub(room.bytes);
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
    options.streams_max.or(options.streams_per_token).or(options.bytes_per_token).is_some()
}

/// Whose the stream is, and how much may be in theirs, if that is limited: by the token of whoever appends, if it is the owner's, or by the setting.
fn bytes_max(who: &Who, stream: &Stream, limits: &Limits) -> Option<(u64, u64)> {
    let said = who.bytes_max();
    if said.is_none() && !limits.has_bytes_per_token() {
        return None;
    }
    let owner = owner(stream.config())?;
    let max = said.filter(|_| key(who) == Some(owner)).or(limits.options().bytes_per_token)?;
    Some((owner, max))
}

fn too_many_streams(limit: &'static str, max: u64) -> Refusal {
    let detail = format!("{limit} is {max}: delete a stream, or let some expire");
    Refusal::new(Code::TooManyStreams, detail).with("limit", limit).with("max", max).with("retryAfter", again())
}

fn too_many_bytes(max: u64) -> Refusal {
    let detail = format!(
        "bytes-per-token is {max}, for all streams of who created this one: nothing was appended; delete some, or let some expire"
    );
    Refusal::new(Code::TooManyBytes, detail)
        .with("limit", "bytes-per-token")
        .with("max", max)
        .with("retryAfter", again())
}

/// Sooner nothing is counted anew.
fn again() -> u64 {
    QUOTA_RECOUNT_MIN.as_secs()
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use fourfold_engines::memory::MemoryEngine;
    use fourfold_stream::{Append, Create, Relay, Retention};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_retention_drops_makes_room_again_without_a_wait_for_the_next_minute() {
        let engine = MemoryEngine::new(Relay::new(1).0, Retention::default());
        let retention = Retention { records: Some(1), ..Retention::default() };
        let note = Some(json!({ OWNER: "ann" }).to_string());
        let wish = Create { content_type: "text/plain".into(), retention, note, ..Create::default() };
        let stream = engine.create(&StreamName::new("a").unwrap(), wish).await.unwrap().stream;
        let limits = Limits::new(LimitOptions { bytes_per_token: Some(10), ..LimitOptions::default() });
        let (quota, who) = (Quota::default(), Who::nobody());
        let append = async || {
            quota.look(who, &stream, 4, &engine, &limits).await.unwrap();
            quota.take(who, &stream, 4, &limits)?;
            let records = vec![Bytes::from_static(b"1234")];
            engine.append(&stream, Append { records, ..Append::default() }).await.unwrap();
            Ok::<(), Refusal>(())
        };
        append().await.unwrap();
        append().await.unwrap();
        for _ in 0..3 {
            assert_eq!(append().await.unwrap_err().code, Code::TooManyBytes); // It was counted a moment ago.
            tokio::time::advance(QUOTA_RECOUNT_MIN).await;
            append().await.unwrap();
        }
    }
}
