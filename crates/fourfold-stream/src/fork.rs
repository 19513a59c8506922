//! Forks: streams that begin with records of another one, which stay where they are.
//!
//! ```text
//! source   0 1 2 3 4 5 6      epoch A
//! fork     0 1 2 3|4 5        A up to the fork point 4, then its own epoch B
//! of it    0 1 2 3 4 5|6      A, B from 4 on, C from 6 on
//! ```
//!
//! Positions go on through the fork point, and a place before it has the same token on the source and on the fork.

use fourfold_protocol::{Epoch, Offset, Segment, Start, StreamName};

use crate::StreamConfig;

/// So often a fork may be forked again: each fork keeps its whole chain, so that reading needs no search, and the end of the last one may end
/// them all in one step.
pub const FORK_DEPTH_MAX: u64 = 256;

/// A wish to create a stream as a fork. Spec: "Stream forking".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForkWish {
    /// The source.
    pub from: StreamName,
    /// Where to leave the source; its tail if it is not said.
    pub at: Option<Start>,
    /// How much of what follows is inherited too: messages of a JSON stream, else bytes of one record.
    pub sub: u64,
}

/// Where a fork comes from. Immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The source's name.
    pub from: StreamName,
    /// The life of the source.
    pub epoch: Epoch,
    /// The place in the source that was asked for.
    pub anchor: u64,
    /// What was asked for beyond it, see [`ForkWish::sub`].
    pub sub: u64,
    /// How many forks it is away from a stream that is none.
    pub depth: u64,
    /// The fork point: records before it are inherited, those from it on are the fork's own.
    pub point: u64,
    /// Whose the records are, in order: the first segment begins at 0, the last one is the fork's own and begins at the fork point.
    pub chain: Vec<Segment>,
}

impl Fork {
    /// The segments of a fork with this epoch, of a source with that one, which leaves it at `point`.
    #[must_use]
    pub fn chain(own: Epoch, source: Epoch, config: &StreamConfig, point: u64) -> Vec<Segment> {
        let before = config.whole_chain(source).into_iter().filter(|segment| segment.from <= point);
        before.chain([Segment { epoch: own, from: point }]).collect()
    }

    /// Whose the record at a position is; `None`: the fork's own.
    #[must_use]
    pub fn owner(&self, position: u64) -> Option<Epoch> {
        (position < self.point).then(|| self.source(position))
    }

    /// The position of a token for a place up to the fork point; `None` if it belongs to something else.
    fn place(&self, offset: Offset) -> Option<u64> {
        place(&self.chain, offset)
    }

    /// The token of the place that was asked for, as the source has it.
    #[must_use]
    pub fn anchor(&self) -> Offset {
        Offset { epoch: self.source(self.anchor), position: self.anchor }
    }

    /// Whether a wish would make this fork, as far as it says. `oldest` is the oldest record that the fork shows.
    #[must_use]
    pub fn satisfies(&self, wish: &ForkWish, oldest: u64) -> bool {
        let at = match wish.at {
            None | Some(Start::Now) => true,
            Some(Start::Oldest) => self.anchor <= oldest,
            Some(Start::At(offset)) => self.place(offset) == Some(self.anchor),
        };
        self.from == wish.from && self.sub == wish.sub && at
    }

    /// The source's epoch for a place up to the fork point.
    fn source(&self, position: u64) -> Epoch {
        let inherited = &self.chain[..self.chain.len() - 1];
        inherited[inherited.partition_point(|segment| segment.from <= position) - 1].epoch
    }
}

impl StreamConfig {
    /// Whose the record at a position is, under which it is kept too; `own` is the stream's epoch.
    #[must_use]
    pub fn owner(&self, own: Epoch, position: u64) -> Epoch {
        if let Some(segment) = self.restored.iter().rev().find(|segment| segment.from <= position) {
            return segment.epoch;
        }
        self.forked.as_ref().and_then(|fork| fork.owner(position)).unwrap_or(own)
    }

    /// The token of a position.
    #[must_use]
    pub fn offset(&self, own: Epoch, position: u64) -> Offset {
        Offset { epoch: self.owner(own, position), position }
    }

    /// The position of a token that was handed out for this stream; `None` if it belongs to something else, or to what a restore has lost.
    #[must_use]
    pub fn place(&self, own: Epoch, offset: Offset) -> Option<u64> {
        if self.is_one_life() {
            return (offset.epoch == own).then_some(offset.position);
        }
        place(&self.whole_chain(own), offset)
    }

    /// Whose its records are, in order; empty if all are its own.
    #[must_use]
    pub fn chain(&self, own: Epoch) -> Vec<Segment> {
        if self.is_one_life() { Vec::new() } else { self.whole_chain(own) }
    }

    /// Whether all its records are of one life.
    #[must_use]
    pub fn is_one_life(&self) -> bool {
        self.forked.is_none() && self.restored.is_empty()
    }

    fn whole_chain(&self, own: Epoch) -> Vec<Segment> {
        let whole = [Segment { epoch: own, from: 0 }];
        let chain = self.forked.as_ref().map_or(&whole[..], |fork| &fork.chain[..]);
        chain.iter().chain(&self.restored).copied().collect()
    }
}

/// A place at a seam has a token of each side.
fn place(chain: &[Segment], offset: Offset) -> Option<u64> {
    let index = chain.iter().position(|segment| segment.epoch == offset.epoch)?;
    let until = chain.get(index + 1).map_or(u64::MAX, |next| next.from);
    (chain[index].from..=until).contains(&offset.position).then_some(offset.position)
}

/// The runs of positions from `from` up to `until`, each with the epoch under which its records are kept.
pub fn runs(epoch: Epoch, config: &StreamConfig, from: u64, until: u64) -> Vec<(Epoch, u64, u64)> {
    if config.is_one_life() {
        return vec![(epoch, from, until)];
    }
    let chain = config.whole_chain(epoch);
    let ends = chain.iter().skip(1).map(|next| next.from).chain([u64::MAX]);
    chain
        .iter()
        .zip(ends)
        .map(|(segment, end)| (segment.epoch, segment.from.max(from), end.min(until)))
        .filter(|(_, from, until)| from < until)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fork(chain: &[(u64, u64)]) -> Fork {
        let chain: Vec<_> = chain.iter().map(|&(epoch, from)| Segment { epoch: Epoch(epoch), from }).collect();
        let point = chain.last().unwrap().from;
        Fork { from: StreamName::new("a").unwrap(), epoch: Epoch(1), anchor: point, sub: 0, depth: 1, point, chain }
    }

    fn config(forked: Option<&Fork>) -> StreamConfig {
        StreamConfig { forked: forked.cloned().map(Box::new), ..StreamConfig::default() }
    }

    fn chain(own: u64, source: u64, forked: Option<&Fork>, point: u64) -> Vec<(u64, u64)> {
        Fork::chain(Epoch(own), Epoch(source), &config(forked), point).iter().map(|s| (s.epoch.0, s.from)).collect()
    }

    #[test]
    fn a_restored_stream_knows_what_was_lost_and_what_came_since() {
        let restored = |forked| StreamConfig {
            restored: [(20, 5), (30, 5), (40, 8)].map(|(epoch, from)| Segment { epoch: Epoch(epoch), from }).into(),
            ..config(forked)
        };
        let plain = restored(None);
        let owners = |config: &StreamConfig, own| [0, 4, 5, 7, 8, 99].map(|at| config.owner(Epoch(own), at).0);
        assert_eq!(owners(&plain, 9), [9, 9, 30, 30, 40, 40]);
        assert_eq!(owners(&restored(Some(&fork(&[(1, 0), (9, 4)]))), 9), [1, 9, 30, 30, 40, 40]);
        let place = |epoch, position| plain.place(Epoch(9), Offset { epoch: Epoch(epoch), position });
        assert_eq!(
            (place(9, 5), place(20, 5), place(30, 5), place(30, 8), place(40, 9)),
            (Some(5), Some(5), Some(5), Some(8), Some(9))
        );
        assert_eq!(
            (place(9, 6), place(20, 6), place(30, 9), place(40, 7), place(7, 1)),
            (None, None, None, None, None)
        );
        let runs: Vec<_> = runs(Epoch(9), &plain, 3, 10).into_iter().map(|(e, a, b)| (e.0, a, b)).collect();
        assert_eq!(runs, [(9, 3, 5), (30, 5, 8), (40, 8, 10)]);
        let chain = Fork::chain(Epoch(50), Epoch(9), &plain, 6);
        assert_eq!(chain.iter().map(|s| (s.epoch.0, s.from)).collect::<Vec<_>>(), [(9, 0), (20, 5), (30, 5), (50, 6)]);
    }

    #[test]
    fn a_chain_keeps_what_lies_before_the_fork_point() {
        let child = fork(&[(1, 0), (2, 4)]);
        assert_eq!(chain(3, 2, Some(&child), 6), [(1, 0), (2, 4), (3, 6)]);
        assert_eq!(chain(3, 2, Some(&child), 4), [(1, 0), (2, 4), (3, 4)], "an empty segment keeps its token valid");
        assert_eq!(chain(3, 2, Some(&child), 3), [(1, 0), (3, 3)]);
        assert_eq!(chain(2, 1, None, 0), [(1, 0), (2, 0)]);
    }

    #[test]
    fn a_record_has_one_owner_and_a_place_at_a_seam_has_two_tokens() {
        let fork = fork(&[(1, 0), (2, 4), (9, 6)]);
        let owner = |position| fork.owner(position).map(|epoch| epoch.0);
        assert_eq!([0, 3, 4, 5, 6].map(owner), [Some(1), Some(1), Some(2), Some(2), None]);
        let place = |epoch, position| fork.place(Offset { epoch: Epoch(epoch), position });
        assert_eq!((place(1, 4), place(2, 4), place(2, 6), place(9, 7)), (Some(4), Some(4), Some(6), Some(7)));
        assert_eq!((place(1, 5), place(2, 3), place(2, 7), place(9, 5), place(3, 6)), (None, None, None, None, None));
    }

    #[test]
    fn runs_join_without_a_hole() {
        let fork = fork(&[(1, 0), (2, 4), (3, 4), (9, 6)]);
        let runs = |from, until| {
            runs(Epoch(9), &config(Some(&fork)), from, until)
                .into_iter()
                .map(|(e, a, b)| (e.0, a, b))
                .collect::<Vec<_>>()
        };
        assert_eq!(runs(2, 9), [(1, 2, 4), (3, 4, 6), (9, 6, 9)]);
        assert_eq!(runs(5, 6), [(3, 5, 6)]);
        assert_eq!(runs(7, 8), [(9, 7, 8)]);
        assert!(runs(7, 7).is_empty());
    }
}
