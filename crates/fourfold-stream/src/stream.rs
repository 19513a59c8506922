//! A stream while it is hot: its tail, its recent records, and who waits for more.
//!
//! The engine moves it ([`Stream::advance`]) after a change is durable, never before; cursors read it. Nothing here is a queue:
//! the recent records are a copy of what the engine has, dropped whenever room is short.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    task::Context,
    time::{Duration, Instant},
};

use fourfold_protocol::{Epoch, Kind, Offset, Record, Segment, StreamName};

use crate::{
    cursor::within,
    engine::{Limit, StreamConfig},
    frame::{Frames, interval_after},
    pace::Pace,
    relay::{Relay, Shard},
    sleepers::Sleepers,
    streams::Budget,
};

/// So many bytes of recent records a stream keeps in memory, its newest append apart: what a cursor that lags by a few wake-ups
/// needs. Older ones are read from the engine.
pub const RECENT_BYTES_MAX: usize = 256 * 1024;

/// A larger append is not kept in memory: its readers read it from the engine.
pub const RECENT_APPEND_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One hot stream, shared by the engine and all its cursors.
pub struct Stream {
    name: StreamName,
    epoch: Epoch,
    kind: Kind,
    config: Arc<StreamConfig>,
    /// Whose its records are, if not all of them are of its own first life.
    chain: Box<[Segment]>,
    /// In place of `kind` and `config`, once the media type is decided of a stream that was created without one.
    decided: OnceLock<(Kind, Arc<StreamConfig>)>,
    /// There before the stream is seen as closed.
    ending: OnceLock<Arc<str>>,
    /// `tail << 2 | deleted << 1 | closed`, so that a sleeper can look without the lock.
    pub(crate) word: AtomicU64,
    /// How often every cursor was woken although nothing had moved.
    roused: AtomicU64,
    state: Mutex<State>,
    shards: Box<[Waiting]>,
    /// See [`meter`](Self::meter).
    meter: AtomicU64,
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
    /// By append, oldest first. An append's records share one allocation, so they are let go together.
    recent: VecDeque<Recent>,
    recent_bytes: usize,
    pub(crate) pace: Pace,
}

/// One append.
struct Recent {
    records: Box<[Record]>,
    /// What it takes: its bytes and its records' own.
    bytes: usize,
}

/// The cursors of one shard.
#[derive(Default)]
struct Waiting {
    cursors: AtomicUsize,
    /// The stream is in the shard's relay already.
    relayed: AtomicBool,
    sleepers: Mutex<Sleepers>,
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
            decided: OnceLock::new(),
            ending: OnceLock::new(),
            kind: Kind::of(&config.content_type),
            chain: config.chain(epoch).into(),
            name,
            epoch,
            config,
            word: AtomicU64::new(tail.word()),
            roused: AtomicU64::new(0),
            meter: AtomicU64::new(0),
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

    /// What its records are. While that is [undecided](Self::is_undecided): bytes, of which there are none.
    pub fn kind(&self) -> Kind {
        self.decided.get().map_or(self.kind, |(kind, _)| *kind)
    }

    /// What it was created with.
    pub fn config(&self) -> &Arc<StreamConfig> {
        self.decided.get().map_or(&self.config, |(_, config)| config)
    }

    /// Whether it was created without a media type, and has none yet. It has no records then, unless it will never have one.
    pub fn is_undecided(&self) -> bool {
        self.config().content_type.is_empty()
    }

    /// What was said of its end, a JSON object. There as soon as the stream is seen as closed, if anything was said.
    pub fn ending(&self) -> Option<&Arc<str>> {
        self.ending.get()
    }

    /// Where it ends. Takes no lock.
    pub fn tail(&self) -> Tail {
        Tail::of(self.word.load(SeqCst))
    }

    /// The position of the oldest record kept.
    pub fn oldest(&self) -> u64 {
        self.state().oldest
    }

    /// The token for a position: before the fork point of a fork the source's.
    pub fn offset(&self, position: u64) -> Offset {
        self.config.offset(self.epoch, position)
    }

    /// The position for a token, which may lie past the tail; `None` if it was never handed out for this stream.
    pub fn position(&self, offset: Offset) -> Option<u64> {
        self.config.place(self.epoch, offset)
    }

    /// Whose its records are, if it is a fork or was restored from a backup; else empty.
    pub fn chain(&self) -> &[Segment] {
        &self.chain
    }

    /// The records from `from` on, if they are in memory: none at the tail. `None` if only the engine has them.
    pub fn recent(&self, from: u64, limit: Limit) -> Option<Vec<Record>> {
        let state = self.state();
        if from < state.recent_from || from < state.oldest {
            return None;
        }
        let first = state.recent.partition_point(|append| append.records.last().is_none_or(|r| r.position < from));
        let appends = state.recent.range(first..);
        let records = appends.flat_map(|append| &append.records).skip_while(|record| record.position < from);
        Some(within(records, limit).cloned().collect())
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

    /// The same future, for a task of `shard`: what completes it on another thread wakes the task through the relay.
    pub fn answer<F: Future + Unpin + Send>(
        &self,
        shard: Shard,
        future: F,
    ) -> impl Future<Output = F::Output> + Send + use<F> {
        let relay = self.relay.clone();
        async move { relay.answer(shard, future).await }
    }

    /// For engines: the media type was decided, durably. Before the [`advance`](Self::advance) that shows what was appended with it.
    pub fn decide(&self, config: &Arc<StreamConfig>) {
        if self.is_undecided() && !config.content_type.is_empty() {
            let _ = self.decided.set((Kind::of(&config.content_type), Arc::clone(config)));
        }
    }

    /// For engines: what was said of the end, durably. Before the [`advance`](Self::advance) that closes the stream.
    pub fn conclude(&self, ending: Option<&Arc<str>>) {
        if let Some(ending) = ending {
            let _ = self.ending.set(Arc::clone(ending));
        }
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
        self.roused.fetch_add(1, SeqCst);
        self.wake();
    }

    /// For engines: retention has moved without an append.
    pub fn trim(&self, oldest: u64) {
        let mut state = self.state();
        state.oldest = state.oldest.max(oldest);
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

    /// A number for whoever counts what is appended here: kept while the stream is hot, never looked at.
    pub fn meter(&self) -> &AtomicU64 {
        &self.meter
    }

    /// What a sleeper compares: it differs once the stream has moved, has ended, or was roused.
    pub(crate) fn seen(&self) -> (u64, u64) {
        (self.word.load(SeqCst), self.roused.load(SeqCst))
    }

    /// A cursor of this shard falls asleep; returns its seat.
    pub(crate) fn sleep(&self, shard: Shard, seat: Option<u32>, cx: &Context<'_>) -> u32 {
        self.sleepers(shard).sleep(seat, cx)
    }

    pub(crate) fn joined(&self, shard: Shard) {
        self.shards[shard.index()].cursors.fetch_add(1, SeqCst);
    }

    pub(crate) fn left(&self, shard: Shard, seat: Option<u32>) {
        if let Some(seat) = seat {
            self.sleepers(shard).leave(seat);
        }
        self.shards[shard.index()].cursors.fetch_sub(1, SeqCst);
    }

    pub(crate) fn wake_shard(&self, shard: Shard) {
        let waiting = &self.shards[shard.index()];
        // Before the wake-up, so that a move during it is relayed again.
        waiting.relayed.store(false, SeqCst);
        self.sleepers(shard).wake();
    }

    fn sleepers(&self, shard: Shard) -> MutexGuard<'_, Sleepers> {
        self.shards[shard.index()].sleepers.lock().expect("no code panics while it holds a stream's sleepers")
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
        let bytes = records.iter().map(|r| r.data.len() + size_of::<Record>()).sum::<usize>();
        let mut keep = RECENT_BYTES_MAX.max(bytes);
        state.recent_bytes += bytes;
        state.recent.push_back(Recent { records: records.into(), bytes });
        if !self.budget.take(bytes) || bytes > RECENT_APPEND_BYTES_MAX {
            keep = 0;
        }
        while state.recent_bytes > keep {
            let Some(append) = state.recent.pop_front() else { break };
            state.recent_bytes -= append.bytes;
            self.budget.give_back(append.bytes);
        }
        state.recent_from = state.recent.front().and_then(|append| append.records.first()).map_or(tail, |r| r.position);
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

    pub(crate) fn of(word: u64) -> Self {
        Self { position: word >> 2, closed: word & 1 != 0, deleted: word & 2 != 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Streams, streams::RECENT_BYTES_TOTAL_MAX};
    use bytes::Bytes;

    const ALL: Limit = Limit { records: usize::MAX, bytes: usize::MAX };

    fn stream(streams: &Streams, name: &str) -> Arc<Stream> {
        let config = StreamConfig { content_type: "text/plain".into(), ..StreamConfig::default() };
        let name = StreamName::new(name).expect("a plain name");
        streams.heat(&name, Epoch(1), &Arc::new(config), 0, Tail::open(0), None)
    }

    /// Appends records of these lengths that share one allocation.
    fn append(stream: &Arc<Stream>, lengths: &[usize]) {
        let all = Bytes::from(vec![b'x'; lengths.iter().sum()]);
        let (mut at, mut position) = (0, stream.tail().position);
        let mut records = Vec::new();
        for length in lengths {
            records.push(Record { position, data: all.slice(at..at + length) });
            (at, position) = (at + length, position + 1);
        }
        stream.advance(records, position, false, 0);
    }

    fn kept(stream: &Stream) -> usize {
        let from = stream.state().recent_from;
        stream.recent(from, ALL).expect("from the first one kept").len()
    }

    #[test]
    fn a_small_record_does_not_keep_a_large_one_behind_it() {
        let streams = Streams::new(Relay::new(1).0);
        let stream = stream(&streams, "a");
        append(&stream, &[RECENT_APPEND_BYTES_MAX, 1]);
        assert_eq!(kept(&stream), 0, "too large an append is not kept at all");
        append(&stream, &[RECENT_BYTES_MAX * 2, 1]);
        assert_eq!(kept(&stream), 2);
        append(&stream, &[1]);
        assert_eq!(kept(&stream), 1, "an append goes whole");
    }

    #[test]
    fn tiny_records_count_for_what_they_take() {
        let streams = Streams::new(Relay::new(1).0);
        let stream = stream(&streams, "a");
        for _ in 0..100_000 {
            append(&stream, &[0]);
        }
        assert!(kept(&stream) <= RECENT_BYTES_MAX / size_of::<Record>());
    }

    #[test]
    fn all_streams_together_stay_within_the_budget() {
        let streams = Streams::new(Relay::new(1).0);
        let large = 1024 * 1024;
        let all: Vec<_> = (0..100).map(|n| stream(&streams, &format!("s/{n}"))).collect();
        all.iter().for_each(|stream| append(stream, &[large]));
        let total: usize = all.iter().map(|stream| kept(stream) * large).sum();
        assert!(total <= RECENT_BYTES_TOTAL_MAX && total > RECENT_BYTES_TOTAL_MAX / 2, "{total}");
        drop((all, streams));
    }

    #[test]
    fn what_is_kept_is_read_from_any_place_in_it() {
        let streams = Streams::new(Relay::new(1).0);
        let stream = stream(&streams, "a");
        append(&stream, &[1, 1, 1]);
        append(&stream, &[1]);
        append(&stream, &[1, 1]);
        for from in 0..=6 {
            let positions: Vec<_> = stream.recent(from, ALL).expect("all is kept").iter().map(|r| r.position).collect();
            assert_eq!(positions, (from..6).collect::<Vec<_>>());
        }
    }
}
