//! How many streams there are, of whom, how much is in them, and whether they take all of the disk that they may.
//!
//! ```text
//! at the start, and every minute   counted by the listing, since streams also expire by themselves, and retention drops records
//! in between                       one more for each that is to be created, before it is; one less for each that is deleted; the bytes of each append
//! before a refusal                 counted anew, unless that was done a moment ago
//! every second                     what the engine takes on the disk
//! ```
//!
//! Whose a stream is stands in its note: the subject of the token that created it. While no limit of these is in force nothing is counted.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use fourfold_access::Who;
use fourfold_calls::Taken;
use fourfold_protocol::{Code, Refusal, StreamName};
use fourfold_stream::{Engine, Listed, OpenError, Pending, Stream, StreamConfig, Unavailable};
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
    /// Those under way, by their numbers, and while all is counted anew also those that have succeeded meanwhile: the listing may have come by before.
    creations: HashMap<u64, Creation, foldhash::fast::FixedState>,
    creations_begun: u64,
    /// All is counted anew at present.
    is_counting: bool,
    /// The last name that the listing has come by.
    listed_to: Option<StreamName>,
    /// As the creations: those under way, and while all is counted anew also those that have succeeded meanwhile.
    deletions: HashMap<u64, Deletion, foldhash::fast::FixedState>,
    deletions_begun: u64,
}

/// A deletion, from before it is tried.
#[derive(Debug)]
struct Deletion {
    name: StreamName,
    owner: Option<u64>,
    /// Its stream is in the counts: to be taken off them.
    counted: bool,
    /// The listing had its stream.
    met: bool,
    over: bool,
}

/// A creation, and what it has taken of the counts.
#[derive(Debug)]
struct Creation {
    name: StreamName,
    owner: Option<u64>,
    took: Owned,
    /// What it is to have in it.
    bytes: u64,
    /// The listing had its stream: that is counted, and not once more.
    found: bool,
    over: bool,
}

/// What one subject has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Owned {
    streams: u64,
    /// Of records.
    bytes: u64,
}

impl Counted {
    fn add(&mut self, owner: Option<u64>, some: Owned) {
        self.streams = self.streams.saturating_add(some.streams);
        if let Some(owner) = owner.filter(|_| some != Owned::default()) {
            let owned = self.of.entry(owner).or_default();
            owned.streams = owned.streams.saturating_add(some.streams);
            owned.bytes = owned.bytes.saturating_add(some.bytes);
        }
    }

    fn subtract(&mut self, owner: Option<u64>, some: Owned) {
        self.streams = self.streams.saturating_sub(some.streams);
        let owner = owner.filter(|_| some != Owned::default());
        if let Some((owner, owned)) = owner.and_then(|owner| Some((owner, self.of.get_mut(&owner)?))) {
            owned.streams = owned.streams.saturating_sub(some.streams);
            owned.bytes = owned.bytes.saturating_sub(some.bytes);
            if owned.streams == 0 {
                self.of.remove(&owner); // With the last stream the bytes have gone.
            }
        }
    }

    /// A creation begins, and takes so much.
    fn begin(&mut self, name: &StreamName, owner: Option<u64>, took: Owned, bytes: u64) -> u64 {
        if self.at.is_some() {
            self.add(owner, took);
        }
        self.creations_begun += 1;
        let creation = Creation { name: name.clone(), owner, took, bytes, found: false, over: false };
        self.creations.insert(self.creations_begun, creation);
        self.creations_begun
    }

    /// All is to be counted anew.
    fn count_begins(&mut self) {
        (self.is_counting, self.listed_to) = (true, None);
        self.deletions.values_mut().for_each(|deletion| deletion.met = false);
        self.creations.values_mut().for_each(|creation| creation.found = false);
    }

    /// This is the next page of the listing.
    fn count_meets(&mut self, page: &[Listed], count: &mut Self) {
        for listed in page.iter().filter(|listed| !listed.name.is_reserved()) {
            count.add(owner(&listed.config), Owned { streams: 1, bytes: listed.bytes });
        }
        for creation in self.creations.values_mut() {
            creation.found |= page.binary_search_by(|listed| listed.name.cmp(&creation.name)).is_ok();
        }
        for deletion in self.deletions.values_mut() {
            deletion.met |= page.binary_search_by(|listed| listed.name.cmp(&deletion.name)).is_ok();
        }
        self.listed_to = page.last().map(|last| last.name.clone());
    }

    /// So much was listed: with the creations that were not, it is all.
    fn count_ends(&mut self, mut count: Self) {
        for creation in self.creations.values_mut() {
            if creation.found {
                creation.took = Owned::default();
            }
            count.add(creation.owner, creation.took);
        }
        for deletion in self.deletions.values_mut() {
            deletion.counted = deletion.met;
            if deletion.over && deletion.met {
                count.subtract(deletion.owner, Owned { streams: 1, bytes: 0 });
            }
        }
        (self.at, self.streams, self.of) = (Some(Instant::now()), count.streams, count.of);
        self.is_counting = false;
    }

    /// With its end or without, as it failed or whoever asked has gone: then the counts are as they were, and what it has found is in none.
    fn count_stops(&mut self) {
        if std::mem::take(&mut self.is_counting) {
            self.creations.values_mut().for_each(|creation| creation.found = false);
        }
        self.creations.retain(|_, creation| !creation.over);
        self.deletions.retain(|_, deletion| !deletion.over);
    }

    /// Whether one of the same subject takes as much for the same stream already: only one of them creates it.
    fn has_twin(&self, name: &StreamName, owner: Option<u64>, bytes: u64) -> bool {
        let is_twin = |other: &Creation| other.took.streams > 0 && other.took.bytes >= bytes;
        self.creations.values().any(|other| other.name == *name && other.owner == owner && is_twin(other))
    }

    fn fits(&self, who: &Who, bytes: u64, options: &LimitOptions) -> Result<(), Refusal> {
        let theirs = self.of(key(who));
        let of_theirs = |setting: Option<u64>| setting.filter(|_| key(who).is_some());
        let streams_max = who.streams_max().or(of_theirs(options.streams_per_token));
        let bytes_max = who.bytes_max().or(of_theirs(options.bytes_per_token));
        match options.streams_max {
            Some(max) if self.streams >= max => return Err(too_many_streams("streams-max", max)),
            _ => {}
        }
        match (streams_max, bytes_max) {
            (Some(max), _) if theirs.streams >= max => Err(too_many_streams("streams-per-token", max)),
            (_, Some(max)) if bytes > 0 && theirs.bytes.saturating_add(bytes) > max => Err(too_many_bytes(max)),
            _ => Ok(()),
        }
    }

    fn of(&self, owner: Option<u64>) -> Owned {
        owner.and_then(|owner| self.of.get(&owner).copied()).unwrap_or_default()
    }
}

/// A count while it lasts.
struct Counting<'a>(&'a Quota);

impl<'a> Counting<'a> {
    fn begin(quota: &'a Quota) -> Self {
        quota.counted().count_begins();
        Self(quota)
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.0.counted().count_stops();
    }
}

/// A creation's place among the streams that there may be, taken before it is tried. If it is dropped without a word, as whoever asked has gone, it
/// stays taken until all is counted anew: the stream may come into being all the same.
#[derive(Debug)]
pub(crate) struct Creating {
    quota: Arc<Quota>,
    number: u64,
}

impl Creating {
    /// There is a new stream.
    pub(crate) fn made(self) {
        let mut counted = self.quota.counted();
        let counted = &mut *counted;
        if let Some(creation) = counted.creations.get_mut(&self.number)
            && creation.took.streams == 0
            && !creation.found
        {
            creation.took = Owned { streams: 1, bytes: creation.bytes };
            if counted.at.is_some() {
                let (owner, took) = (creation.owner, creation.took);
                counted.add(owner, took);
            }
        }
    }

    /// There is none, or it was there before.
    pub(crate) fn give_back(self) {
        let mut counted = self.quota.counted();
        if let Some(creation) = counted.creations.remove(&self.number) {
            counted.subtract(creation.owner, creation.took);
        }
    }
}

impl Drop for Creating {
    fn drop(&mut self) {
        let mut counted = self.quota.counted();
        if !counted.is_counting {
            counted.creations.remove(&self.number);
        } else if let Some(creation) = counted.creations.get_mut(&self.number) {
            creation.over = true;
        }
    }
}

/// A deletion under way. Dropped without a word it has changed nothing, until all is counted anew.
#[derive(Debug)]
pub(crate) struct Deleting {
    quota: Arc<Quota>,
    number: u64,
}

impl Deleting {
    /// There is one less. What its records took is known when it is counted anew.
    pub(crate) fn done(self) {
        let mut counted = self.quota.counted();
        let counted = &mut *counted;
        let Some(deletion) = counted.deletions.get_mut(&self.number) else { return };
        deletion.over = true;
        if deletion.counted {
            let owner = deletion.owner;
            counted.subtract(owner, Owned { streams: 1, bytes: 0 });
        }
    }
}

impl Drop for Deleting {
    fn drop(&mut self) {
        let mut counted = self.quota.counted();
        let over = counted.deletions.get(&self.number).is_some_and(|deletion| deletion.over);
        if !(over && counted.is_counting) {
            counted.deletions.remove(&self.number);
        }
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
            if is_due {
                let _turn = self.counting.lock().await;
                if let Err(why) = self.recount(engine).await {
                    tracing::warn!(%why, "the streams could not be counted");
                }
            }
        }
    }

    /// Counts all streams; whoever does has the turn. What is created or deleted meanwhile is counted once, wherever the listing is; what is appended
    /// meanwhile may be missed until the next time.
    async fn recount(&self, engine: &dyn Engine) -> Result<(), Unavailable> {
        let _counting = Counting::begin(self);
        let mut count = Counted::default();
        let mut after: Option<String> = None;
        loop {
            let page = engine.list("", after.as_deref(), QUOTA_PAGE_STREAMS).await?;
            self.counted().count_meets(&page.streams, &mut count);
            after = page.streams.last().map(|last| last.name.as_str().to_owned());
            if !page.more {
                break;
            }
        }
        self.counted().count_ends(count);
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

    /// Whether `who` may create one more, with so many bytes of records in it: if so its place is taken. One that is there already takes none.
    ///
    /// Errors: there are as many as there may be, in all or of theirs, or theirs take as much as they may; or nobody knows which are theirs.
    pub(crate) async fn create(
        self: &Arc<Self>,
        who: &Who,
        name: &StreamName,
        bytes: u64,
        engine: &dyn Engine,
        options: &LimitOptions,
    ) -> Result<Creating, Refusal> {
        let is_limited = counts(options) || who.streams_max().or(who.bytes_max()).is_some();
        let is_there = async || !matches!(engine.open(name).await, Err(OpenError::NotFound));
        let takes_none = || {
            let number = self.counted().begin(name, key(who), Owned::default(), bytes);
            Creating { quota: Arc::clone(self), number }
        };
        // Looked at first: a repeated creation must not take the last place from another one, not even for a moment.
        if !is_limited || is_there().await {
            return Ok(takes_none());
        }
        if let Some(claim) = who.unaccountable() {
            return Err(unaccountable(claim));
        }
        match self.place(who, name, bytes, engine, options).await {
            Err(_) if is_there().await => Ok(takes_none()), // Another request was faster.
            judged => judged,
        }
    }

    /// A place, of what there is by now. Errors as [`create`](Self::create), and the streams could not be counted.
    async fn place(
        self: &Arc<Self>,
        who: &Who,
        name: &StreamName,
        bytes: u64,
        engine: &dyn Engine,
        options: &LimitOptions,
    ) -> Result<Creating, Refusal> {
        let is_known = self.counted().at.is_some();
        if is_known && let Ok(creating) = self.reserve(who, name, bytes, options) {
            return Ok(creating);
        }
        self.refresh(engine).await?;
        self.reserve(who, name, bytes, options)
    }

    /// As [`create`](Self::create), for a call's stream: a new one, of nobody in particular.
    async fn begin_call(
        self: &Arc<Self>,
        name: &StreamName,
        engine: &dyn Engine,
        options: &LimitOptions,
    ) -> Result<Creating, Refusal> {
        self.has_room()?;
        if options.streams_max.is_some() {
            return self.place(Who::nobody(), name, 0, engine, options).await;
        }
        let number = self.counted().begin(name, None, Owned::default(), 0);
        Ok(Creating { quota: Arc::clone(self), number })
    }

    /// Judges and takes at once, so that of many at the same time no more get through than there is room for.
    fn reserve(
        self: &Arc<Self>,
        who: &Who,
        name: &StreamName,
        bytes: u64,
        options: &LimitOptions,
    ) -> Result<Creating, Refusal> {
        let (owner, mut counted) = (key(who), self.counted());
        let takes = match counted.fits(who, bytes, options) {
            Ok(()) => Owned { streams: 1, bytes },
            Err(_) if counted.has_twin(name, owner, bytes) => Owned::default(),
            Err(refusal) => return Err(refusal),
        };
        let number = counted.begin(name, owner, takes, bytes);
        Ok(Creating { quota: Arc::clone(self), number })
    }

    /// A stream that is there is to be deleted.
    pub(crate) fn delete(self: &Arc<Self>, name: &StreamName, config: &StreamConfig) -> Deleting {
        let mut counted = self.counted();
        let met = counted.is_counting && counted.listed_to.as_ref().is_some_and(|last| last >= name);
        let is_counted = counted.at.is_some();
        let deletion = Deletion { name: name.clone(), owner: owner(config), counted: is_counted, met, over: false };
        counted.deletions_begun += 1;
        let number = counted.deletions_begun;
        counted.deletions.insert(number, deletion);
        Deleting { quota: Arc::clone(self), number }
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

/// What calls may take of it.
pub(crate) struct RoomForCalls {
    quota: Arc<Quota>,
    engine: Arc<dyn Engine>,
    limits: Arc<Limits>,
}

impl RoomForCalls {
    pub(crate) fn new(quota: &Arc<Quota>, engine: &Arc<dyn Engine>, limits: &Arc<Limits>) -> Self {
        Self { quota: Arc::clone(quota), engine: Arc::clone(engine), limits: Arc::clone(limits) }
    }
}

impl fourfold_calls::Room for RoomForCalls {
    fn take(&self, name: &StreamName) -> Pending<Result<Taken, Refusal>> {
        let (quota, engine, options) = (Arc::clone(&self.quota), Arc::clone(&self.engine), self.limits.options());
        let name = name.clone();
        Box::pin(async move {
            let creating = quota.begin_call(&name, &*engine, &options).await?;
            Ok(Box::new(move |made| if made { creating.made() } else { creating.give_back() }) as Taken)
        })
    }

    fn is_full(&self) -> bool {
        self.quota.is_full.load(Relaxed)
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

/// Not a limit that is met: it is no use to wait.
fn unaccountable(claim: &str) -> Refusal {
    let detail = format!(
        "the token says {claim}, and has no 'sub' by which its streams could be counted: nothing was created; use a token with a 'sub'"
    );
    Refusal::new(Code::NotPermitted, detail)
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
mod tests;
