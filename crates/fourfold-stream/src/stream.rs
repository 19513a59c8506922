//! A stream while it is hot: its tail, its recent records, and who waits for more.
//!
//! The engine moves it ([`Stream::advance`]) after a change is durable, never before; cursors read it. Nothing here is a queue:
//! the recent records are a copy of what the engine has, dropped whenever room is short.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use fourfold_protocol::{Epoch, Kind, Offset, Record, StreamName};
use tokio::sync::{Notify, futures::Notified};

use crate::{
    cursor::within,
    engine::{Limit, StreamConfig},
    frame::{Frames, interval_after},
    pace::Pace,
    relay::{Relay, Shard},
    streams::Budget,
};

/// So many bytes of recent records a stream keeps in memory: what a cursor that lags by a few wake-ups needs. Older ones
/// are read from the engine.
pub const RECENT_BYTES_MAX: usize = 256 * 1024;

/// One hot stream, shared by the engine and all its cursors.
pub struct Stream {
    name: StreamName,
    epoch: Epoch,
    kind: Kind,
    config: Arc<StreamConfig>,
    /// `tail << 2 | deleted << 1 | closed`, so that a sleeper can look without the lock.
    word: AtomicU64,
    state: Mutex<State>,
    shards: Box<[Waiting]>,
    /// The stream is in the watch's list already.
    pub(crate) noted: AtomicBool,
    relay: Relay,
    budget: Arc<Budget>,
}

/// Where a stream ends at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The place after the last record.
    pub position: u64,
    /// Whether nothing will follow.
    pub closed: bool,
    /// Whether the stream is gone.
    pub deleted: bool,
}

pub(crate) struct State {
    pub(crate) oldest: u64,
    /// From here on `recent` has every record up to the tail.
    pub(crate) recent_from: u64,
    pub(crate) recent: VecDeque<Record>,
    recent_bytes: usize,
    pace: Pace,
}

/// The cursors of one shard.
#[derive(Default)]
struct Waiting {
    cursors: AtomicUsize,
    /// The stream is in the shard's relay already.
    relayed: AtomicBool,
    moved: Notify,
    /// A copy for each shard: shared by two threads, their reference counts and lock would cost more than encoding twice.
    frames: Mutex<Frames>,
}

impl Stream {
    pub(crate) fn new(
        name: StreamName,
        epoch: Epoch,
        config: Arc<StreamConfig>,
        oldest: u64,
        tail: Tail,
        relay: Relay,
        budget: Arc<Budget>,
    ) -> Self {
        Self {
            kind: Kind::of(&config.content_type),
            name,
            epoch,
            config,
            word: AtomicU64::new(tail.word()),
            state: Mutex::new(State {
                oldest,
                recent_from: tail.position,
                recent: VecDeque::new(),
                recent_bytes: 0,
                pace: Pace::starting(Instant::now()),
            }),
            shards: (0..relay.shards()).map(|_| Waiting::default()).collect(),
            noted: AtomicBool::new(false),
            relay,
            budget,
        }
    }

    /// Its name.
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// Which life of the name this is.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What its records are.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What it was created with.
    pub fn config(&self) -> &Arc<StreamConfig> {
        &self.config
    }

    /// Where it ends. Takes no lock.
    pub fn tail(&self) -> Tail {
        Tail::of(self.word.load(SeqCst))
    }

    /// The position of the oldest record kept.
    pub fn oldest(&self) -> u64 {
        self.state().oldest
    }

    /// The token for a position.
    pub fn offset(&self, position: u64) -> Offset {
        Offset { epoch: self.epoch, position }
    }

    /// The records from `from` on, if they are in memory: none at the tail. `None` if only the engine has them.
    pub fn recent(&self, from: u64, limit: Limit) -> Option<Vec<Record>> {
        let state = self.state();
        if from < state.recent_from || from < state.oldest {
            return None;
        }
        let first = state.recent.partition_point(|record| record.position < from);
        Some(within(state.recent.range(first..), limit).cloned().collect())
    }

    /// How many cursors follow it. A followed stream is in use: its TTL does not run out.
    pub fn cursors(&self) -> usize {
        self.shards.iter().map(|shard| shard.cursors.load(SeqCst)).sum()
    }

    /// When it is worth polling again, from the stream's pace, jittered.
    pub fn poll_after(&self) -> Duration {
        self.state().pace.poll_after(Instant::now(), fastrand::f32())
    }

    /// `streamCursor` for an answer to a client that has seen this one. Spec: "Caching and Collapsing".
    pub fn interval_after(&self, seen: Option<u64>) -> u64 {
        interval_after(seen)
    }

    /// For engines: makes durable records visible and wakes who waits. `records` are those that `tail` was moved past, in order;
    /// `oldest` is where retention stands now.
    pub fn advance(self: &Arc<Self>, records: Vec<Record>, tail: u64, closed: bool, oldest: u64) {
        {
            let mut state = self.state();
            state.oldest = state.oldest.max(oldest);
            if !records.is_empty() {
                state.pace.moved(Instant::now());
                self.remember(&mut state, records, tail);
            }
            let deleted = self.tail().deleted;
            self.word.store(Tail { position: tail, closed, deleted }.word(), SeqCst);
            self.forget_frames();
        }
        self.wake();
        self.relay.watch().note(self); // After the move: whoever is told finds it.
    }

    /// For engines: the stream is gone, durably. Every cursor on it ends.
    pub fn end(self: &Arc<Self>) {
        {
            let mut state = self.state();
            let tail = self.tail();
            self.word.store(Tail { deleted: true, ..tail }.word(), SeqCst);
            self.budget.give_back(state.recent_bytes);
            state.recent_bytes = 0;
            state.recent.clear();
            state.recent_from = tail.position;
            self.forget_frames();
        }
        self.wake();
    }

    /// Wakes every cursor although nothing has moved: something else wants to be looked at.
    pub fn rouse(self: &Arc<Self>) {
        self.wake();
    }

    /// For engines: retention has moved without an append.
    pub fn trim(&self, oldest: u64) {
        let mut state = self.state();
        state.oldest = state.oldest.max(oldest);
    }

    /// Completes when the stream has moved or ended after this was called and `enable`d. Look at the tail in between: *enable, look, await*,
    /// so that a record appended meanwhile is not missed.
    pub fn moved(&self, shard: Shard) -> Notified<'_> {
        self.shards[shard.index()].moved.notified()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds a stream's state")
    }

    pub(crate) fn frames(&self, shard: Shard) -> MutexGuard<'_, Frames> {
        self.shards[shard.index()].frames.lock().expect("no code panics while it holds a stream's frames")
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(crate) fn joined(&self, shard: Shard) {
        self.shards[shard.index()].cursors.fetch_add(1, SeqCst);
    }

    pub(crate) fn left(&self, shard: Shard) {
        self.shards[shard.index()].cursors.fetch_sub(1, SeqCst);
    }

    pub(crate) fn wake_shard(&self, shard: Shard) {
        let waiting = &self.shards[shard.index()];
        // Before the wake-up, so that a move during it is relayed again.
        waiting.relayed.store(false, SeqCst);
        waiting.moved.notify_waiters();
    }

    fn wake(self: &Arc<Self>) {
        for (shard, waiting) in self.shards.iter().enumerate() {
            // A cursor counts itself before it looks at the tail, and the tail was moved before this looks at the count.
            if waiting.cursors.load(SeqCst) > 0 && !waiting.relayed.swap(true, SeqCst) {
                self.relay.send(shard, Arc::clone(self));
            }
        }
    }

    fn remember(&self, state: &mut State, records: Vec<Record>, tail: u64) {
        let added = records.iter().map(|r| r.data.len()).sum::<usize>();
        let keep = if self.budget.take(added) { RECENT_BYTES_MAX } else { added };
        state.recent_bytes += added;
        state.recent.extend(records);
        let mut freed = 0;
        while state.recent_bytes > keep {
            let Some(record) = state.recent.pop_front() else { break };
            state.recent_bytes -= record.data.len();
            freed += record.data.len();
        }
        self.budget.give_back(freed);
        state.recent_from = state.recent.front().map_or(tail, |first| first.position);
    }

    fn forget_frames(&self) {
        for shard in &self.shards {
            let freed = shard.frames.lock().expect("no code panics while it holds a stream's frames").clear();
            self.budget.give_back(freed);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let recent = self.state().recent_bytes;
        self.budget.give_back(recent);
        self.forget_frames();
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("name", &self.name)
            .field("epoch", &self.epoch)
            .field("tail", &self.tail())
            .finish()
    }
}

impl Tail {
    /// An open stream that ends here.
    #[must_use]
    pub fn open(position: u64) -> Self {
        Self { position, closed: false, deleted: false }
    }

    fn word(self) -> u64 {
        self.position << 2 | u64::from(self.deleted) << 1 | u64::from(self.closed)
    }

    fn of(word: u64) -> Self {
        Self { position: word >> 2, closed: word & 1 != 0, deleted: word & 2 != 0 }
    }
}
