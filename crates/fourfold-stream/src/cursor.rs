//! A subscriber's place in a stream, and what it reads next. Nothing else is kept for a subscriber.
//!
//! ```text
//!            ┌── tail moved ──┐
//!            ▼                │
//!  next() ─ Frame ─ write ─ next() ─ Wait ─ sleep until moved
//!            ▲                │
//!            └─ catch_up() ─ Behind      (too far back for the recent records)
//! ```

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use fourfold_protocol::{Code, Portion, Record, Refusal, Start};

use crate::{
    Stream, Tail,
    engine::{Engine, Limit, ReadError, Unavailable},
    frame::{Dialect, Frame, Key, interval_after, interval_now},
    relay::Shard,
};

/// One portion of a live read: large enough that catching up is not a matter of system calls, small enough that what a
/// stalled reader pins is little. At least one record is read however large it is.
pub const PORTION: Limit = Limit { records: 1_000, bytes: 64 * 1024 };

/// A place in a stream, on a shard.
#[derive(Debug)]
pub struct Cursor {
    stream: Arc<Stream>,
    at: u64,
    /// `streamCursor` must not fall behind this; 0 for nothing.
    floor: u64,
    gap: Option<Box<fourfold_protocol::Offset>>,
    shard: Shard,
    /// Where it sleeps, once it has.
    seat: Option<u32>,
    greeted: bool,
    finished: bool,
    passing: bool,
    /// What the stream was like at the last look.
    seen: (u64, u64),
}

/// What a cursor finds.
#[derive(Debug)]
pub enum Next {
    /// Write this; the cursor has moved past it.
    Frame(Frame),
    /// The records are not in memory: [`Cursor::catch_up`].
    Behind,
    /// Nothing new: sleep on [`Cursor::moved`].
    Wait,
    /// Nothing will follow.
    Ended(Ended),
}

/// Why nothing will follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The stream is closed, and the frame before this said so.
    Closed,
    /// The stream was deleted or has expired.
    Deleted,
}

/// Why a cursor cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadRefusal {
    /// The stream was deleted or has expired.
    Deleted,
    /// The engine cannot read now.
    Unavailable(Unavailable),
}

impl Cursor {
    /// Where `start` is in the stream.
    ///
    /// Errors: [`Code::OffsetPastTail`], [`Code::OffsetOfAnotherEpoch`], [`Code::OffsetTrimmed`], the last two with
    /// `oldestOffset`, from which the stream can be read.
    pub fn place(stream: &Stream, start: Start) -> Result<u64, Refusal> {
        let oldest = stream.oldest();
        let tail = stream.tail().position;
        let offset = match start {
            Start::Oldest => return Ok(oldest),
            Start::Now => return Ok(tail),
            Start::At(offset) => offset,
        };
        let from_oldest = |code, detail: String| {
            let oldest = stream.offset(oldest).to_string();
            Err(Refusal::new(code, detail).with("offset", offset.to_string()).with("oldestOffset", oldest))
        };
        let Some(position) = stream.position(offset) else {
            return from_oldest(
                Code::OffsetOfAnotherEpoch,
                format!("{offset} belongs to another life of the stream: read on from oldestOffset"),
            );
        };
        if position > tail {
            return Err(Refusal::new(
                Code::OffsetPastTail,
                format!(
                    "{offset} lies past the tail {}: use an offset that this server handed out",
                    stream.offset(tail)
                ),
            ));
        }
        if position < oldest {
            return from_oldest(
                Code::OffsetTrimmed,
                format!("retention has dropped the records from {offset} on: read on from oldestOffset"),
            );
        }
        Ok(position)
    }

    /// A cursor at a position, from [`place`](Self::place).
    #[must_use]
    pub fn new(stream: Arc<Stream>, at: u64, shard: Shard) -> Self {
        stream.joined(shard);
        let seen = stream.seen();
        let (gap, seat) = (None, None);
        Self { stream, at, floor: 0, gap, shard, seat, greeted: false, finished: false, passing: false, seen }
    }

    /// The first frame will tell a gap from `lost` to where the cursor stands.
    pub fn tell_gap(&mut self, lost: fourfold_protocol::Offset) {
        self.gap = Some(Box::new(lost));
    }

    /// The client has seen this `streamCursor`: give out greater ones.
    pub fn seen_cursor(&mut self, seen: u64) {
        self.floor = interval_after(Some(seen));
    }

    /// The first frame need not say where the cursor stands: [`next`](Self::next) waits for a record or the end.
    pub fn greeted(&mut self) {
        self.greeted = true;
    }

    /// Records are passed over unread from now on: frames only say where the tail is, and the end.
    pub fn pass_records(&mut self) {
        self.passing = true;
    }

    /// Whether it passes over records.
    #[must_use]
    pub fn passes_records(&self) -> bool {
        self.passing
    }

    /// The next frame comes at once and says where the cursor stands, also without a record: a word in silence.
    pub fn greet(&mut self) {
        self.greeted = false;
    }

    /// The stream it is on.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// The shard it lives on.
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// The place before the next record.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// `streamCursor` for an answer written now.
    pub fn interval(&self) -> u64 {
        interval_now().max(self.floor)
    }

    /// Where the stream ends. [`moved`](Self::moved) waits for what comes after this look.
    pub fn look(&mut self) -> Tail {
        self.seen = self.stream.seen();
        Tail::of(self.seen.0)
    }

    /// Completes when the stream has moved, has ended or was roused since the cursor last looked: by [`look`](Self::look) or
    /// [`next`](Self::next). Cancel-safe: what has happened is still found the next time.
    pub async fn moved(&mut self) {
        poll_fn(|cx| self.poll_moved(cx)).await;
    }

    /// The same, for one task at a time.
    pub fn poll_moved(&mut self, cx: &Context<'_>) -> Poll<()> {
        // Asleep first, and then the look: a record appended in between wakes us.
        self.seat = Some(self.stream.sleep(self.shard, self.seat, cx));
        if self.stream.seen() == self.seen { Poll::Pending } else { Poll::Ready(()) }
    }

    /// What is new, encoded in `dialect`; never waits. Moves the cursor past it.
    pub fn next(&mut self, dialect: &dyn Dialect, limit: Limit) -> Next {
        let tail = self.look();
        if tail.deleted {
            return Next::Ended(Ended::Deleted);
        }
        if self.finished {
            return Next::Ended(Ended::Closed);
        }
        if self.passing {
            self.at = tail.position;
        }
        if self.at == tail.position && self.greeted && !tail.closed && self.gap.is_none() {
            return Next::Wait;
        }
        let interval = self.interval();
        if self.passing {
            // Neither shared frames nor recent records: the tail may have moved on since, and they with it.
            let frame = self.encode(dialect, &[], interval);
            return self.take(frame);
        }
        let key = Key { dialect: dialect.number(), from: self.at, interval };
        let shared = limit == PORTION && self.gap.is_none();
        if shared {
            let frame = self.stream.frames(self.shard).get(key).cloned();
            if let Some(frame) = frame {
                return self.take(frame);
            }
        }
        let oldest = self.stream.oldest();
        if self.at < oldest {
            self.gap.get_or_insert_with(|| Box::new(self.stream.offset(self.at)));
            self.at = oldest;
            return self.next(dialect, limit);
        }
        let Some(records) = self.stream.recent(self.at, limit) else { return Next::Behind };
        let frame = self.encode(dialect, &records, interval);
        if shared {
            self.share(key, &frame);
        }
        self.take(frame)
    }

    /// Keeps a frame for the cursors of this shard that stand here too. One that stops short of the tail is not worth it, and the tail may
    /// have moved on meanwhile.
    fn share(&self, key: Key, frame: &Frame) {
        let mut frames = self.stream.frames(self.shard);
        let tail = self.stream.tail();
        if tail.position != frame.next || tail.closed != frame.closed || frames.get(key).is_some() {
            return;
        }
        let budget = self.stream.budget();
        let (grown, shrunk) = frames.keep(key, frame.clone());
        budget.give_back(shrunk);
        if !budget.take(grown) {
            budget.give_back(frames.clear());
        }
    }

    /// What the engine has from here on, encoded in `dialect`. Moves the cursor past it; cancel-safe: the cursor moves last.
    pub async fn catch_up(
        &mut self,
        engine: &dyn Engine,
        dialect: &dyn Dialect,
        limit: Limit,
    ) -> Result<Frame, ReadRefusal> {
        loop {
            match engine.read(&self.stream, self.at, limit).await {
                Ok(batch) => {
                    let frame = self.encode(dialect, &batch.records, self.interval());
                    let frame = Frame { next: batch.next, ..frame };
                    self.take_frame(&frame);
                    return Ok(frame);
                }
                Err(ReadError::Trimmed { oldest }) => {
                    self.gap.get_or_insert_with(|| Box::new(self.stream.offset(self.at)));
                    self.at = oldest;
                }
                Err(ReadError::NotFound) => return Err(ReadRefusal::Deleted),
                Err(ReadError::Unavailable(why)) => return Err(ReadRefusal::Unavailable(why)),
            }
        }
    }

    fn encode(&self, dialect: &dyn Dialect, records: &[Record], interval: u64) -> Frame {
        // The tail is read after the records: if it has moved on meanwhile, they are not up to date.
        let tail = self.stream.tail();
        let next = records.last().map_or(self.at, |last| last.position + 1);
        let up_to_date = next == tail.position;
        let closed = up_to_date && tail.closed;
        let offset = self.stream.offset(next);
        let gap = self.gap.as_deref().map(|lost| (*lost, self.stream.offset(self.at)));
        let cursor = (!closed).then_some(interval);
        let chain = self.stream.chain();
        let ending = self.stream.ending().map(|ending| &**ending);
        let kind = self.stream.kind();
        let portion = Portion { kind, records, next: offset, chain, up_to_date, closed, cursor, gap, ending };
        Frame { bytes: dialect.encode(&portion), records: records.len(), next, up_to_date, closed, gap: gap.is_some() }
    }

    fn take(&mut self, frame: Frame) -> Next {
        self.take_frame(&frame);
        Next::Frame(frame)
    }

    fn take_frame(&mut self, frame: &Frame) {
        self.at = frame.next;
        self.gap = None;
        self.greeted = true;
        self.finished = frame.closed;
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.stream.left(self.shard, self.seat);
    }
}

/// The records that fit: at least one, if there is any.
pub fn within<'a>(records: impl Iterator<Item = &'a Record>, limit: Limit) -> impl Iterator<Item = &'a Record> {
    let mut bytes = 0_usize;
    records
        .take(limit.records.max(1))
        .enumerate()
        .take_while(move |(n, record)| {
            bytes = bytes.saturating_add(record.data.len());
            *n == 0 || bytes <= limit.bytes
        })
        .map(|(_, record)| record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Relay, Streams,
        engine::StreamConfig,
        stream::{RECENT_APPEND_BYTES_MAX, Tail},
    };
    use bytes::Bytes;
    use fourfold_protocol::{Epoch, StreamName};

    struct Nothing;

    impl Dialect for Nothing {
        fn number(&self) -> u8 {
            0
        }

        fn encode(&self, portion: &Portion<'_>) -> Bytes {
            assert!(portion.records.is_empty());
            Bytes::new()
        }
    }

    #[test]
    fn a_cursor_that_passes_records_over_is_never_behind() {
        let streams = Streams::new(Relay::new(1).0);
        let config = StreamConfig { content_type: "text/plain".into(), ..StreamConfig::default() };
        let name = StreamName::new("a").expect("a plain name");
        let stream = streams.heat(&name, Epoch(1), &Arc::new(config), 0, Tail::open(0), None);
        let large = Bytes::from(vec![b'x'; RECENT_APPEND_BYTES_MAX + 1]); // Kept by the engine alone.
        let append = |position: u64, closed: bool| {
            stream.advance(vec![Record { position, data: large.clone() }], position + 1, closed, position);
        };
        let cursor = || Cursor::new(Arc::clone(&stream), 0, Shard(0));
        let mut passing = cursor();
        passing.pass_records();
        append(0, false);
        assert!(matches!(cursor().next(&Nothing, PORTION), Next::Behind), "only the engine has it");
        let greeting = passing.next(&Nothing, PORTION);
        assert!(matches!(greeting, Next::Frame(Frame { records: 0, next: 1, up_to_date: true, closed: false, .. })));
        append(1, false);
        assert!(matches!(passing.next(&Nothing, PORTION), Next::Wait));
        assert_eq!(passing.at(), 2);
        passing.greet();
        assert!(matches!(passing.next(&Nothing, PORTION), Next::Frame(Frame { records: 0, next: 2, .. })));
        append(2, true);
        let end = passing.next(&Nothing, PORTION);
        assert!(matches!(end, Next::Frame(Frame { records: 0, next: 3, up_to_date: true, closed: true, .. })));
        assert!(matches!(passing.next(&Nothing, PORTION), Next::Ended(Ended::Closed)));
    }
}
