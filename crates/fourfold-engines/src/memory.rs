//! Streams in memory: gone with the process, otherwise as durable streams are.
//!
//! One lock for everything: an append holds it for about a microsecond. Nothing waits, so every future is ready.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    convert::Infallible,
    fmt,
    future::ready,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, Weak, mpsc},
    thread,
};

use fourfold_protocol::{Epoch, Record, StreamName};
use fourfold_stream::{
    Admission, Append, AppendError, Appended, Batch, Create, CreateError, Created, Engine, Head, Limit, Listed,
    Listing, OpenError, Pending, ProducerState, ReadError, Relay, Retention, Stream, StreamConfig, Streams, Tail,
    Unavailable, admission::admit, cursor::within,
};

use crate::rules::{self, Kept, SWEEP_EVERY, now_ms};

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
    /// When to look at a stream again: for its expiry or the age of its oldest record. At most one entry a stream; it may be early.
    agenda: BTreeMap<(u64, Epoch), String>,
}

struct Log {
    name: StreamName,
    epoch: Epoch,
    config: Arc<StreamConfig>,
    head: Head,
    bytes: u64,
    /// With the time of the append.
    records: VecDeque<(u64, Record)>,
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
        Box::pin(ready(stream.ok_or(OpenError::NotFound)))
    }

    fn append(&self, stream: &Arc<Stream>, append: Append) -> Pending<Result<Appended, AppendError>> {
        Box::pin(ready(self.shared.append(stream, append)))
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
        let skip = usize::try_from(from - oldest).unwrap_or(usize::MAX).min(log.records.len());
        let records: Vec<Record> =
            within(log.records.range(skip..).map(|(_, record)| record), limit).cloned().collect();
        let next = records.last().map_or(from, |last| last.position + 1);
        Box::pin(ready(Ok(Batch { records, next })))
    }

    fn delete(&self, stream: &Arc<Stream>) -> Pending<Result<(), OpenError>> {
        let mut state = self.shared.state();
        let found = self.shared.find(&mut state, stream.name(), Some(stream.epoch())).is_some();
        if found {
            self.shared.remove(&mut state, stream.name().as_str());
        }
        Box::pin(ready(if found { Ok(()) } else { Err(OpenError::NotFound) }))
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
            .filter(|(_, log)| !self.shared.expired(log, now))
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
            return match rules::conflict(&log.config, log.head.closed, &wish) {
                Some(what) => Err(CreateError::Conflict(what)),
                None => Ok(Created { stream: self.heat(log), fresh: false }),
            };
        }
        let now = now_ms();
        state.last_epoch = now.max(state.last_epoch + 1);
        let mut log = Log {
            name: name.clone(),
            epoch: Epoch(state.last_epoch),
            config: Arc::new(rules::configure(&wish, self.defaults, now)),
            head: Head::default(),
            bytes: 0,
            records: VecDeque::new(),
            producers: HashMap::default(),
            used_ms: now,
            look_ms: None,
        };
        let stream = self.heat(&log);
        let first = Append { records: wish.records, close: wish.closed, ..Append::default() };
        let (records, _) = log.push(first, None, now);
        stream.advance(records, log.head.tail, log.head.closed, log.head.oldest);
        state.plan(&mut log);
        state.logs.insert(name.as_str().to_owned(), log);
        Ok(Created { stream, fresh: true })
    }

    fn append(&self, stream: &Arc<Stream>, append: Append) -> Result<Appended, AppendError> {
        let mut state = self.state();
        let log = self.find(&mut state, stream.name(), Some(stream.epoch())).ok_or(AppendError::NotFound)?;
        let now = now_ms();
        log.used_ms = now;
        let known = append.producer.as_ref().and_then(|by| log.producers.get(&by.id).copied());
        let advanced = match admit(&log.head, known, &append)? {
            Admission::Done(done) => return Ok(done),
            Admission::Write(advanced) => advanced,
        };
        let (records, done) = log.push(append, advanced, now);
        stream.advance(records, log.head.tail, log.head.closed, log.head.oldest);
        if log.next_look().is_some_and(|next| log.look_ms.is_none_or(|planned| next < planned)) {
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
        if epoch.is_some_and(|epoch| epoch != log.epoch) {
            return None;
        }
        if self.expired(log, now) {
            self.remove(state, name.as_str());
            return None;
        }
        let log = state.logs.get_mut(name.as_str())?;
        if log.trim(now)
            && let Some(stream) = self.streams.get(name)
        {
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
        self.streams.heat(&log.name, log.epoch, &log.config, log.head.oldest, tail)
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

impl State {
    /// Enters the time of the next look, if the stream needs one.
    fn plan(&mut self, log: &mut Log) {
        if let Some(look) = log.look_ms {
            self.agenda.remove(&(look, log.epoch));
        }
        log.look_ms = log.next_look();
        if let Some(look) = log.look_ms {
            self.agenda.insert((look, log.epoch), log.name.as_str().to_owned());
        }
    }
}

impl Log {
    fn next_look(&self) -> Option<u64> {
        let stale = self
            .records
            .front()
            .filter(|_| self.records.len() > 1)
            .and_then(|(at, _)| rules::stale_ms(self.config.retention, *at));
        [rules::expires_ms(&self.config, self.used_ms), stale].into_iter().flatten().min()
    }

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
        self.trim(now);
        (records, done)
    }

    /// Whether anything was dropped.
    fn trim(&mut self, now: u64) -> bool {
        let mut kept = Kept { oldest: self.head.oldest, tail: self.head.tail, bytes: self.bytes };
        let records = &mut self.records;
        let oldest = kept.oldest;
        let Ok(()) = rules::trim::<Infallible>(&mut kept, self.config.retention, now, |position| {
            let index = usize::try_from(position - oldest).expect("what is kept fits in memory");
            let (at, record) = &records[index];
            Ok((*at, length(record)))
        });
        for _ in oldest..kept.oldest {
            records.pop_front();
        }
        self.head.oldest = kept.oldest;
        self.bytes = kept.bytes;
        kept.oldest > oldest
    }

    fn listed(&self) -> Listed {
        Listed {
            name: self.name.clone(),
            epoch: self.epoch,
            config: Arc::clone(&self.config),
            oldest: self.head.oldest,
            tail: self.head.tail,
            closed: self.head.closed,
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
