//! What a cursor reads at one go, before a transport has written it.

use crate::{Kind, Offset, Record, Segment};

/// Records that follow each other, and where their reader stands after them.
#[derive(Clone, Copy, Debug)]
pub struct Portion<'a> {
    /// What the records are.
    pub kind: Kind,
    /// In order; none in a pure control message.
    pub records: &'a [Record],
    /// The offset after them.
    pub next: Offset,
    /// Whose the stream's records are, if it is a fork.
    pub chain: &'a [Segment],
    /// Whether `next` is the tail.
    pub up_to_date: bool,
    /// Whether the stream is closed and `next` is its end.
    pub closed: bool,
    /// `streamCursor`, while the stream is open. Spec: "Caching and Collapsing".
    pub cursor: Option<u64>,
    /// Records before these that the reader wanted and retention has dropped: from where, to where.
    pub gap: Option<(Offset, Offset)>,
    /// What was said of the end, a JSON object; told where the end is.
    pub ending: Option<&'a str>,
}

impl Portion<'_> {
    /// The token of a place in it.
    #[must_use]
    pub fn offset(&self, position: u64) -> Offset {
        let segment = self.chain.iter().rev().find(|segment| segment.from <= position);
        Offset { epoch: segment.map_or(self.next.epoch, |segment| segment.epoch), position }
    }
}
