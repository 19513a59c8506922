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
    pub fn chain(own: Epoch, source: Epoch, forked: Option<&Self>, point: u64) -> Vec<Segment> {
        let whole = [Segment { epoch: source, from: 0 }];
        let before = forked.map_or(&whole[..], |fork| &fork.chain[..]).iter().filter(|segment| segment.from <= point);
        before.copied().chain([Segment { epoch: own, from: point }]).collect()
    }

    /// Whose the record at a position is; `None`: the fork's own.
    #[must_use]
    pub fn owner(&self, position: u64) -> Option<Epoch> {
        (position < self.point).then(|| self.source(position))
    }

    /// The position of a token that was handed out for this stream, or for a place up to the fork point; `None` if it belongs to something else.
    #[must_use]
    pub fn place(&self, offset: Offset) -> Option<u64> {
        let index = self.chain.iter().position(|segment| segment.epoch == offset.epoch)?;
        let until = self.chain.get(index + 1).map_or(u64::MAX, |next| next.from);
        (self.chain[index].from..=until).contains(&offset.position).then_some(offset.position)
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

/// The runs of positions from `from` up to `until`, each with the epoch under which its records are kept.
pub fn runs(epoch: Epoch, forked: Option<&Fork>, from: u64, until: u64) -> Vec<(Epoch, u64, u64)> {
    let Some(fork) = forked else { return vec![(epoch, from, until)] };
    let ends = fork.chain.iter().skip(1).map(|next| next.from).chain([u64::MAX]);
    fork.chain
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

    fn chain(own: u64, source: u64, forked: Option<&Fork>, point: u64) -> Vec<(u64, u64)> {
        Fork::chain(Epoch(own), Epoch(source), forked, point).iter().map(|s| (s.epoch.0, s.from)).collect()
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
            runs(Epoch(9), Some(&fork), from, until).into_iter().map(|(e, a, b)| (e.0, a, b)).collect::<Vec<_>>()
        };
        assert_eq!(runs(2, 9), [(1, 2, 4), (3, 4, 6), (9, 6, 9)]);
        assert_eq!(runs(5, 6), [(3, 5, 6)]);
        assert_eq!(runs(7, 8), [(9, 7, 8)]);
        assert!(runs(7, 7).is_empty());
    }
}
