//! Streams in memory: gone with the process, otherwise as durable streams are.
//!
//! One lock for everything: an append holds it for about a microsecond. Nothing waits, so every future is ready.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    convert::Infallible,
    fmt,
    future::ready,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, Weak, mpsc},
    thread,
};

use bytes::Bytes;
use fourfold_protocol::{Epoch, Record, StreamName};
use fourfold_stream::{
    Admission, Append, AppendError, Appended, Batch, Create, CreateError, Created, Engine, ForkError, ForkWish, Head,
    Limit, Listed, Listing, OpenError, Pending, ProducerState, ReadError, Relay, Retention, Stream, StreamConfig,
    Streams, Tail, Unavailable, admission::admit, cursor::within, fork::runs, stages::Moment,
};

use crate::{
    family::{self, Change, Family, Kin, NOTHING, Ties},
    forking::{self, Source},
    rules::{self, Kept, SWEEP_EVERY, now_ms},
};

/// Keeps streams in memory.
pub struct MemoryEngine {
    shared: Arc<Shared>,
    /// Dropped with the engine, which ends the sweeper.
    _sweeper: mpsc::Sender<()>,
}

struct Shared {
    state: Mutex<State>,
    streams: Streams,
    defaults: Retention,
}

#[derive(Default)]
struct State {
    logs: BTreeMap<String, Log>,
    last_epoch: u64,
    /// Source, the least position that the fork needs of it, fork.
    forks: BTreeSet<(Epoch, u64, Epoch)>,
    /// When to look at a stream again: for its expiry or the age of its oldest record. At most one entry a stream; it may be early.
    agenda: BTreeMap<(u64, Epoch), String>,
}

struct Log {
    name: StreamName,
    epoch: Epoch,
    config: Arc<StreamConfig>,
    head: Head,
    bytes: u64,
    /// With the time of the append, without holes up to the tail: those that the stream or a fork of it shows.
    records: VecDeque<(u64, Record)>,
    ties: Ties,
    producers: HashMap<String, ProducerState, foldhash::fast::RandomState>,
    used_ms: u64,
    look_ms: Option<u64>,
}

impl MemoryEngine {
    /// No streams yet. `defaults` holds for what a creation leaves open; cursors are woken through `relay`.
    ///
    /// Starts a thread that ends with the engine.
    #[must_use]
    pub fn new(relay: Relay, defaults: Retention) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), streams: Streams::new(relay), defaults });
        let (sender, ended) = mpsc::channel();
        let swept = Arc::downgrade(&shared);
        thread::Builder::new()
            .name("fourfold-sweep".into())
            .spawn(move || sweep(&swept, &ended))
            .expect("a process that cannot start a thread at its start cannot serve");
        Self { shared, _sweeper: sender }
    }
}

impl Engine for MemoryEngine {
    fn streams(&self) -> &Streams {
        &self.shared.streams
    }

    fn create(&self, name: &StreamName, wish: Create) -> Pending<Result<Created, CreateError>> {
        Box::pin(ready(self.shared.create(name, wish)))
    }

    fn open(&self, name: &StreamName) -> Pending<Result<Arc<Stream>, OpenError>> {
        let mut state = self.shared.state();
        let stream = self.shared.find(&mut state, name, None).map(|log| self.shared.heat(log));
        Box::pin(ready(stream.ok_or_else(|| state.absent(name))))
    }

    fn append(&self, stream: &Arc<Stream>, append: Append) -> Pending<Result<Appended, AppendError>> {
        let stages = append.stages.clone();
        let appended = self.shared.append(stream, append);
        stages.committed();
        Box::pin(ready(appended))
    }

    fn read(&self, stream: &Arc<Stream>, from: u64, limit: Limit) -> Pending<Result<Batch, ReadError>> {
        let mut state = self.shared.state();
        let Some(log) = self.shared.find(&mut state, stream.name(), Some(stream.epoch())) else {
            return Box::pin(ready(Err(ReadError::NotFound)));
        };
        let oldest = log.head.oldest;
        if from < oldest {
            return Box::pin(ready(Err(ReadError::Trimmed { oldest })));
        }
        let (epoch, tail, config) = (log.epoch, log.head.tail, Arc::clone(&log.config));
        let log = &state.logs[stream.name().as_str()];
        let records = runs(epoch, &config, from, tail)
            .into_iter()
            .flat_map(|(owner, from, until)| state.ancestor(log, owner).run(from, until));
        let records: Vec<Record> = within(records, limit).cloned().collect();
        let next = records.last().map_or(from, |last| last.position + 1);
        Box::pin(ready(Ok(Batch { records, next })))
    }

    fn delete(&self, stream: &Arc<Stream>) -> Pending<Result<(), OpenError>> {
        let mut state = self.shared.state();
        let found = self.shared.find(&mut state, stream.name(), Some(stream.epoch())).is_some();
        if found {
            self.shared.end(&mut state, stream.name().as_str());
            return Box::pin(ready(Ok(())));
        }
        let gone =
            state.logs.get(stream.name().as_str()).is_some_and(|log| log.epoch == stream.epoch() && log.ties.gone);
        Box::pin(ready(Err(if gone { OpenError::Gone } else { OpenError::NotFound })))
    }

    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Pending<Result<Listing, Unavailable>> {
        let now = now_ms();
        let state = self.shared.state();
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut listed = state
            .logs
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(name, _)| name.starts_with(prefix))
            .filter(|(_, log)| !log.ties.gone && !self.shared.expired(log, now))
            .map(|(_, log)| log.listed());
        let streams = listed.by_ref().take(limit).collect();
        let more = listed.next().is_some();
        Box::pin(ready(Ok(Listing { streams, more })))
    }

    fn renew(&self, stream: &Arc<Stream>) {
        if stream.config().ttl_seconds.is_some() {
            let mut state = self.shared.state();
            if let Some(log) = self.shared.find(&mut state, stream.name(), Some(stream.epoch())) {
                log.used_ms = now_ms();
            }
        }
    }
}

impl Shared {
    fn create(&self, name: &StreamName, wish: Create) -> Result<Created, CreateError> {
        let mut state = self.state();
        if let Some(log) = self.find(&mut state, name, None) {
            return match rules::conflict(&log.config, &log.head, &wish) {
                Some(what) => Err(CreateError::Conflict(what)),
                None => Ok(Created { stream: self.heat(log), fresh: false }),
            };
        }
        if state.logs.contains_key(name.as_str()) {
            return Err(CreateError::Gone);
        }
        let now = now_ms();
        let epoch = Epoch(now.max(state.last_epoch + 1));
        let (config, head, bytes, part) = match &wish.fork {
            None => (rules::configure(&wish, self.defaults, now), Head::default(), 0, None),
            Some(fork) => self.leave(&mut state, epoch, &wish, fork, now)?,
        };
        state.last_epoch = epoch.0;
        let mut log = Log {
            name: name.clone(),
            epoch,
            config: Arc::new(config),
            head,
            bytes,
            records: VecDeque::new(),
            ties: Ties::default(),
            producers: HashMap::default(),
            used_ms: now,
            look_ms: None,
        };
        let stream = self.heat(&log);
        let records = part.into_iter().chain(wish.records).collect();
        let first = Append { records, close: wish.closed, ..Append::default() };
        let (records, _) = log.push(first, None, now);
        if let Some(fork) = &log.config.forked {
            state.forks.insert((fork.epoch, NOTHING, epoch));
        }
        state.logs.insert(name.as_str().to_owned(), log);
        self.settle(&mut state, name.as_str(), now);
        let mut log = state.logs.remove(name.as_str()).expect("it was inserted a moment ago");
        stream.advance(records, log.head.tail, log.head.closed, log.head.oldest);
        state.plan(&mut log);
        state.logs.insert(name.as_str().to_owned(), log);
        Ok(Created { stream, fresh: true })
    }

    /// Where a fork leaves its source: its configuration, its head, the bytes it inherits, its first record.
    fn leave(
        &self,
        state: &mut State,
        epoch: Epoch,
        wish: &Create,
        fork: &ForkWish,
        now: u64,
    ) -> Result<(StreamConfig, Head, u64, Option<Bytes>), CreateError> {
        if self.find(state, &fork.from, None).is_none() {
            let gone = state.logs.contains_key(fork.from.as_str());
            return Err(if gone { ForkError::Gone } else { ForkError::NotFound }.into());
        }
        let log = &state.logs[fork.from.as_str()];
        let source = Source { epoch: log.epoch, config: &log.config, head: &log.head };
        let look = |position| Ok::<_, CreateError>(state.record(log, position).1.data.clone());
        let leaving = forking::leave(source, &wish.content_type, fork, look)?;
        let config = forking::configure(epoch, source, &leaving, wish, fork, now);
        let Ok((oldest, bytes)) =
            forking::inherit::<Infallible>(source, log.bytes, config.retention, leaving.point, |position| {
                Ok(length(&state.record(log, position).1))
            });
        Ok((config, Head { oldest, tail: leaving.point, ..Head::default() }, bytes, leaving.part))
    }

    /// Trims a fork, and changes what that means for its relatives.
    fn settle(&self, state: &mut State, name: &str, now: u64) -> bool {
        let log = &state.logs[name];
        if log.config.forked.is_none() {
            return false;
        }
        let kept = log.kept(now, |position| {
            let (at, record) = state.record(log, position);
            (*at, length(record))
        });
        let trimmed = kept.oldest > log.head.oldest;
        let log = state.logs.get_mut(name).expect("it was there");
        log.keep(kept);
        let kin = log.kin();
        let Ok(changes) = family::moved(state, kin);
        self.change(state, changes);
        trimmed
    }

    /// Ends a stream: it goes, or stays for its forks.
    fn end(&self, state: &mut State, name: &str) {
        let kin = state.logs[name].kin();
        let Ok(changes) = family::end(state, kin);
        self.change(state, changes);
    }

    fn change(&self, state: &mut State, changes: Vec<Change>) {
        for change in changes {
            let (Change::Ended(kin) | Change::Tied(kin, _)) = &change;
            let source = kin.config.forked.as_ref().map(|fork| fork.epoch);
            if let Some(source) = source {
                state.forks.remove(&(source, kin.ties.needs, kin.epoch));
            }
            match change {
                Change::Ended(kin) => self.remove(state, kin.name.as_str()),
                Change::Tied(kin, ties) => {
                    if let Some(source) = source {
                        state.forks.insert((source, ties.needs, kin.epoch));
                    }
                    let log = state.logs.get_mut(kin.name.as_str()).expect("it was looked at");
                    log.ties = ties;
                    log.clear();
                    if ties.gone && !kin.ties.gone {
                        if let Some(look) = log.look_ms.take() {
                            state.agenda.remove(&(look, kin.epoch));
                        }
                        self.streams.cool(&kin.name, kin.epoch);
                    }
                }
            }
        }
    }

    fn append(&self, stream: &Arc<Stream>, append: Append) -> Result<Appended, AppendError> {
        let mut state = self.state();
        append.stages.taken(Moment::now());
        let log = self.find(&mut state, stream.name(), Some(stream.epoch())).ok_or(AppendError::NotFound)?;
        let now = now_ms();
        log.used_ms = now;
        let known = append.producer.as_ref().and_then(|by| log.producers.get(&by.id).copied());
        let advanced = match admit(&log.head, known, &append)? {
            Admission::Done(done) => return Ok(done),
            Admission::Write(advanced) => advanced,
        };
        if let Some(config) = rules::decide(&log.config, &log.head, append.content_type.as_ref()) {
            stream.decide(&config);
            log.config = config;
        }
        let (records, done) = log.push(append, advanced, now);
        stream.conclude(log.head.ending.as_ref());
        if log.config.forked.is_some() {
            self.settle(&mut state, stream.name().as_str(), now);
        }
        let log = &state.logs[stream.name().as_str()];
        stream.advance(records, log.head.tail, log.head.closed, log.head.oldest);
        if state.next_look(log).is_some_and(|next| log.look_ms.is_none_or(|planned| next < planned)) {
            let name = stream.name().as_str();
            let mut log = state.logs.remove(name).expect("it was there a moment ago");
            state.plan(&mut log);
            state.logs.insert(name.to_owned(), log);
        }
        Ok(done)
    }

    /// The stream if it lives (in this epoch), trimmed by age as of now. One that has expired is removed.
    fn find<'a>(&self, state: &'a mut State, name: &StreamName, epoch: Option<Epoch>) -> Option<&'a mut Log> {
        let now = now_ms();
        let log = state.logs.get(name.as_str())?;
        if log.ties.gone || epoch.is_some_and(|epoch| epoch != log.epoch) {
            return None;
        }
        if self.expired(log, now) {
            self.end(state, name.as_str());
            return None;
        }
        let trimmed = if log.config.forked.is_some() {
            log.config.retention.age_seconds.is_some() && self.settle(state, name.as_str(), now)
        } else {
            state.logs.get_mut(name.as_str())?.trim(now)
        };
        let log = state.logs.get_mut(name.as_str())?;
        if trimmed && let Some(stream) = self.streams.get(name) {
            stream.trim(log.head.oldest);
        }
        Some(log)
    }

    fn expired(&self, log: &Log, now: u64) -> bool {
        let absolute = log.config.expires_at_ms.is_some_and(|at| at <= now);
        absolute || (rules::expires_ms(&log.config, log.used_ms).is_some_and(|at| at <= now) && !self.followed(log))
    }

    fn followed(&self, log: &Log) -> bool {
        self.streams.get(&log.name).is_some_and(|stream| stream.cursors() > 0)
    }

    fn remove(&self, state: &mut State, name: &str) {
        if let Some(log) = state.logs.remove(name) {
            if let Some(look) = log.look_ms {
                state.agenda.remove(&(look, log.epoch));
            }
            self.streams.cool(&log.name, log.epoch);
        }
    }

    fn heat(&self, log: &Log) -> Arc<Stream> {
        let tail = Tail { closed: log.head.closed, ..Tail::open(log.head.tail) };
        self.streams.heat(&log.name, log.epoch, &log.config, log.head.oldest, tail, log.head.ending.as_ref())
    }

    /// Expires and trims what is due.
    fn look(&self) {
        let now = now_ms();
        for stream in self.streams.all() {
            // The countdown begins when the last cursor has left.
            if stream.config().ttl_seconds.is_some()
                && stream.cursors() > 0
                && let Some(log) = self.state().logs.get_mut(stream.name().as_str())
                && log.epoch == stream.epoch()
            {
                log.used_ms = now;
            }
        }
        loop {
            let mut state = self.state();
            let Some(entry) = state.agenda.first_entry().filter(|entry| entry.key().0 <= now) else { return };
            let name = entry.remove();
            let Some(log) = state.logs.get_mut(&name) else { continue };
            log.look_ms = None;
            let name = log.name.clone();
            if self.find(&mut state, &name, None).is_some() {
                let mut log = state.logs.remove(name.as_str()).expect("it was found");
                if self.followed(&log) {
                    log.used_ms = now;
                }
                state.plan(&mut log);
                state.logs.insert(name.as_str().to_owned(), log);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds the logs")
    }
}

impl Family for State {
    type Error = Infallible;

    fn kin(&mut self, name: &StreamName, _: Epoch) -> Result<Kin, Infallible> {
        Ok(self.logs[name.as_str()].kin())
    }

    fn least(&mut self, of: Epoch, except: Option<Epoch>) -> Result<Option<u64>, Infallible> {
        let mut forks = self.forks.range((of, 0, Epoch(0))..=(of, NOTHING, Epoch(u64::MAX)));
        Ok(forks.find(|(_, _, fork)| Some(*fork) != except).map(|(_, needs, _)| *needs))
    }
}

impl State {
    fn next_look(&self, log: &Log) -> Option<u64> {
        let ages = log.config.retention.age_seconds.is_some() && log.head.tail - log.head.oldest > 1;
        let stale = ages.then(|| self.record(log, log.head.oldest).0);
        let stale = stale.and_then(|at| rules::stale_ms(log.config.retention, at));
        [rules::expires_ms(&log.config, log.used_ms), stale].into_iter().flatten().min()
    }

    /// Why a stream that was not found is not there.
    fn absent(&self, name: &StreamName) -> OpenError {
        if self.logs.contains_key(name.as_str()) { OpenError::Gone } else { OpenError::NotFound }
    }

    /// The log of this epoch that a fork inherits from, or its own.
    fn ancestor<'a>(&'a self, mut log: &'a Log, epoch: Epoch) -> &'a Log {
        while log.epoch != epoch {
            let fork = log.config.forked.as_ref().expect("an inherited record has an owner");
            log = &self.logs[fork.from.as_str()];
        }
        log
    }

    /// The record at a position that a stream shows.
    fn record<'a>(&'a self, log: &'a Log, position: u64) -> &'a (u64, Record) {
        let owner = log.config.forked.as_ref().and_then(|fork| fork.owner(position));
        let log = owner.map_or(log, |owner| self.ancestor(log, owner));
        &log.records[log.index(position)]
    }

    /// Enters the time of the next look, if the stream needs one.
    fn plan(&mut self, log: &mut Log) {
        if let Some(look) = log.look_ms {
            self.agenda.remove(&(look, log.epoch));
        }
        log.look_ms = self.next_look(log);
        if let Some(look) = log.look_ms {
            self.agenda.insert((look, log.epoch), log.name.as_str().to_owned());
        }
    }
}

impl Log {
    fn push(&mut self, append: Append, advanced: Option<ProducerState>, now: u64) -> (Vec<Record>, Appended) {
        let first = self.head.tail;
        let done = rules::apply(&mut self.head, &append, advanced);
        if let (Some(by), Some(state)) = (append.producer, advanced) {
            self.producers.insert(by.id, state);
        }
        let records: Vec<Record> =
            (first..).zip(append.records).map(|(position, data)| Record { position, data }).collect();
        for record in &records {
            self.bytes += length(record);
            self.records.push_back((now, record.clone()));
        }
        if self.config.forked.is_none() {
            self.trim(now);
        }
        (records, done)
    }

    /// Whether anything was dropped.
    fn trim(&mut self, now: u64) -> bool {
        let oldest = self.head.oldest;
        let kept = self.kept(now, |position| {
            let (at, record) = &self.records[self.index(position)];
            (*at, length(record))
        });
        self.keep(kept);
        self.head.oldest > oldest
    }

    /// What retention leaves.
    fn kept(&self, now: u64, look: impl Fn(u64) -> (u64, u64)) -> Kept {
        let mut kept = Kept { oldest: self.head.oldest, tail: self.head.tail, bytes: self.bytes };
        let Ok(()) = rules::trim::<Infallible>(&mut kept, self.config.retention, now, |position| Ok(look(position)));
        kept
    }

    fn keep(&mut self, kept: Kept) {
        (self.head.oldest, self.bytes) = (kept.oldest, kept.bytes);
        self.clear();
    }

    /// Drops the records that nobody shows.
    fn clear(&mut self) {
        let until = self.ties.clearable(&self.head);
        while self.records.front().is_some_and(|(_, record)| record.position < until) {
            self.records.pop_front();
        }
    }

    /// Where the record at a position of its own is; past the end if it is inherited.
    fn index(&self, position: u64) -> usize {
        let index = |first: &Record| usize::try_from(position.wrapping_sub(first.position)).unwrap_or(usize::MAX);
        self.records.front().map_or(usize::MAX, |(_, first)| index(first))
    }

    /// Own records in a range of positions.
    fn run(&self, from: u64, until: u64) -> impl Iterator<Item = &Record> {
        let skip = self.index(from).min(self.records.len());
        let range = self.records.range(skip..).map(|(_, record)| record);
        range.take_while(move |record| record.position < until)
    }

    fn kin(&self) -> Kin {
        let (name, config) = (self.name.clone(), Arc::clone(&self.config));
        Kin { name, epoch: self.epoch, config, oldest: self.head.oldest, ties: self.ties }
    }

    fn listed(&self) -> Listed {
        Listed {
            name: self.name.clone(),
            epoch: self.epoch,
            config: Arc::clone(&self.config),
            oldest: self.head.oldest,
            tail: self.head.tail,
            bytes: self.bytes,
            closed: self.head.closed,
            ending: self.head.ending.clone(),
        }
    }
}

impl fmt::Debug for MemoryEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryEngine").finish_non_exhaustive()
    }
}

fn length(record: &Record) -> u64 {
    u64::try_from(record.data.len()).expect("a length fits in 64 bits")
}

fn sweep(shared: &Weak<Shared>, ended: &mpsc::Receiver<()>) {
    while ended.recv_timeout(SWEEP_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
        let Some(shared) = shared.upgrade() else { return };
        shared.look();
    }
}
