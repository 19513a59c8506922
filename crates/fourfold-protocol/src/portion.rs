//! What a cursor reads at one go, before a transport has written it.

use crate::{Kind, Offset, Record};

/// Records that follow each other, and where their reader stands after them.
#[derive(Clone, Copy, Debug)]
pub struct Portion<'a> {
    /// What the records are.
    pub kind: Kind,
    /// In order; none in a pure control message.
    pub records: &'a [Record],
    /// The offset after them.
    pub next: Offset,
    /// Whether `next` is the tail.
    pub up_to_date: bool,
    /// Whether the stream is closed and `next` is its end.
    pub closed: bool,
    /// `streamCursor`, while the stream is open. Spec: "Caching and Collapsing".
    pub cursor: Option<u64>,
    /// Records before these that the reader wanted and retention has dropped: from where, to where.
    pub gap: Option<(Offset, Offset)>,
}
