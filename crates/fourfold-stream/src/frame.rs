//! Records encoded once for a dialect and shared by every cursor that stands at the same place.
//!
//! ```text
//! record  record  record        cursors at A: one frame A→tail for all of them
//! ├───────┼───────┼───────┤     cursors at B (slower or later): one frame B→tail
//! A       B               tail  a moved tail forgets them all
//! ```

use bytes::Bytes;
use fourfold_protocol::Portion;

/// A way of writing a portion that does not depend on who reads it.
pub trait Dialect: Sync {
    /// Tells dialects apart: two dialects with the same number write the same bytes.
    fn number(&self) -> u8;
    /// The bytes for the wire.
    fn encode(&self, portion: &Portion<'_>) -> Bytes;
}

/// An encoded portion.
#[derive(Clone, Debug)]
pub struct Frame {
    /// For the wire, in the dialect that was asked for.
    pub bytes: Bytes,
    /// How many records are in it.
    pub records: usize,
    /// The position after them.
    pub next: u64,
    /// Whether that was the tail.
    pub up_to_date: bool,
    /// Whether it is the end of a closed stream: nothing follows.
    pub closed: bool,
    /// Whether it tells of records that the reader has missed.
    pub gap: bool,
}

/// At most so many frames are kept for a stream: the transports in use, each with a few cursors that lag by one wake-up.
const FRAMES_MAX: usize = 8;

/// The frames of a stream that end at its present tail.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    kept: Vec<(Key, Frame)>,
    bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) dialect: u8,
    pub(crate) from: u64,
    pub(crate) interval: u64,
}

impl Frames {
    pub(crate) fn get(&self, key: Key) -> Option<&Frame> {
        self.kept.iter().find(|(kept, _)| *kept == key).map(|(_, frame)| frame)
    }

    /// Returns by how many bytes the frames grew and shrank.
    pub(crate) fn keep(&mut self, key: Key, frame: Frame) -> (usize, usize) {
        let before = self.bytes;
        if self.kept.len() == FRAMES_MAX {
            self.bytes -= self.kept.remove(0).1.bytes.len();
        }
        let shrunk = before - self.bytes;
        let grown = frame.bytes.len();
        self.bytes += grown;
        self.kept.push((key, frame));
        (grown, shrunk)
    }

    /// Returns how many bytes were let go.
    pub(crate) fn clear(&mut self) -> usize {
        self.kept.clear();
        std::mem::take(&mut self.bytes)
    }
}

/// Seconds of one `streamCursor` interval. Spec: "Caching and Collapsing".
const INTERVAL_SECONDS: u64 = 20;
/// 2024-10-09T00:00:00Z in Unix seconds, from which the protocol counts intervals.
const INTERVALS_SINCE: u64 = 1_728_432_000;

/// The number of the present interval.
pub(crate) fn interval_now() -> u64 {
    let now = unix_seconds();
    now.saturating_sub(INTERVALS_SINCE) / INTERVAL_SECONDS
}

/// By the coarse clock, where there is one: every cursor asks at every wake-up, and for an answer in units of 20 s.
#[cfg(target_os = "linux")]
fn unix_seconds() -> u64 {
    use rustix::time::{ClockId, clock_gettime};
    u64::try_from(clock_gettime(ClockId::RealtimeCoarse).tv_sec).unwrap_or(0)
}

#[cfg(not(target_os = "linux"))]
fn unix_seconds() -> u64 {
    use std::time::{SystemTime, UNIX_EPOCH};
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// A client's `cursor` may be ahead of the clock; ours then runs ahead of it by at most an hour. Spec: "Caching and Collapsing".
const JITTER_INTERVALS_MAX: u64 = 180;

/// The present interval, or a greater one than the client has seen.
pub(crate) fn interval_after(seen: Option<u64>) -> u64 {
    let now = interval_now();
    seen.filter(|seen| *seen >= now).map_or(now, |seen| seen.saturating_add(fastrand::u64(1..=JITTER_INTERVALS_MAX)))
}
