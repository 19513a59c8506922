//! Where everything lies. All numbers in keys are big-endian, so that keys sort as numbers do.
//!
//! ```text
//! names      name                  → epoch, configuration            one per stream
//! heads      epoch                 → head                            one per stream
//! records    epoch position        → time of the append, data
//! producers  epoch id              → producer epoch, sequence
//! agenda     time epoch            → name                            when to look at a stream again; may be early
//! doomed     epoch                 →                                 deleted: its records and producers go bit by bit
//! forks      epoch needs epoch     →                                 source, the least position that its fork needs, fork
//! meta       "format" "epoch" "fourfold.commit"
//! ```
//!
//! The names are stored and must stay.

use fourfold_protocol::Epoch;

/// One of the keyspaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Space {
    Names,
    Heads,
    Records,
    Producers,
    Agenda,
    Doomed,
    Meta,
    Forks,
}

impl Space {
    /// The one with this index in [`SPACES`].
    pub(crate) fn of(index: u8) -> Option<Self> {
        use Space::*;
        [Names, Heads, Records, Producers, Agenda, Doomed, Meta, Forks].get(usize::from(index)).copied()
    }
}

/// In the order of the variants.
pub(crate) const SPACES: [&str; 8] = ["names", "heads", "records", "producers", "agenda", "doomed", "meta", "forks"];

/// The number of this layout and of the encodings in [`super::meta`].
pub(crate) const FORMAT: &[u8] = b"format";
/// The last epoch given.
pub(crate) const LAST_EPOCH: &[u8] = b"epoch";
/// The number of the group that was written last, and the sum over it; the last item of every batch.
pub(crate) const COMMIT: &[u8] = b"fourfold.commit";

pub(crate) fn epoch(epoch: Epoch) -> [u8; 8] {
    epoch.0.to_be_bytes()
}

pub(crate) fn record(epoch: Epoch, position: u64) -> [u8; 16] {
    two(epoch.0, position)
}

pub(crate) fn agenda(at_ms: u64, epoch: Epoch) -> [u8; 16] {
    two(at_ms, epoch.0)
}

pub(crate) fn producer(epoch: Epoch, id: &str) -> Vec<u8> {
    [&epoch.0.to_be_bytes(), id.as_bytes()].concat()
}

pub(crate) fn fork(source: Epoch, needs: u64, fork: Epoch) -> Vec<u8> {
    [source.0, needs, fork.0].map(u64::to_be_bytes).concat()
}

/// What a fork needs, and the fork.
pub(crate) fn forked(key: &[u8]) -> Option<(u64, Epoch)> {
    let (needs, fork) = numbers(key.get(8..)?)?;
    Some((needs, Epoch(fork)))
}

/// The two numbers of a record's or an agenda's key.
pub(crate) fn numbers(key: &[u8]) -> Option<(u64, u64)> {
    let (first, second) = key.split_at_checked(8)?;
    Some((number(first)?, number(second)?))
}

pub(crate) fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn two(first: u64, second: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&first.to_be_bytes());
    key[8..].copy_from_slice(&second.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_sort_as_their_numbers(a in any::<(u64, u64)>(), b in any::<(u64, u64)>()) {
            prop_assert_eq!(a.cmp(&b), record(Epoch(a.0), a.1).cmp(&record(Epoch(b.0), b.1)));
            prop_assert_eq!(numbers(&agenda(a.0, Epoch(a.1))), Some(a));
        }
    }
}
