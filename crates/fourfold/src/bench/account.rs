//! What one reader has had of one writer's records: each once, in order, or not. Bounded, however long the run.

/// How far back a record that comes late is told from one that comes twice.
const WINDOW: u64 = 64;

/// One reader's account of one writer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    /// The sequence behind the greatest seen.
    next: u64,
    /// Bit n: whether `next - 1 - n` has been seen.
    seen: u64,
}

/// What a record was to its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// New, and behind all that were seen.
    InOrder,
    /// New, but a later one was seen before.
    Late,
    /// Seen before. Also what lies more than 64 records back, since nobody remembers whether it was seen.
    Again,
}

impl Account {
    /// Enters a record.
    pub(crate) fn enter(&mut self, sequence: u64) -> Arrival {
        if sequence >= self.next {
            let ahead = sequence - self.next + 1;
            self.seen = if ahead < WINDOW { self.seen << ahead | 1 } else { 1 };
            self.next = sequence + 1;
            return Arrival::InOrder;
        }
        let back = self.next - 1 - sequence;
        let bit = if back < WINDOW { 1 << back } else { 0 };
        if bit == 0 || self.seen & bit != 0 {
            return Arrival::Again;
        }
        self.seen |= bit;
        Arrival::Late
    }
}

#[cfg(test)]
mod tests {
    use super::{Arrival::*, *};

    fn entered(sequences: &[u64]) -> Vec<Arrival> {
        let mut account = Account::default();
        sequences.iter().map(|sequence| account.enter(*sequence)).collect()
    }

    #[test]
    fn a_record_is_new_late_or_seen_before() {
        assert_eq!(entered(&[0, 1, 2]), [InOrder, InOrder, InOrder]);
        assert_eq!(entered(&[0, 0, 1, 0]), [InOrder, Again, InOrder, Again]);
        assert_eq!(entered(&[0, 2, 1, 1, 3]), [InOrder, InOrder, Late, Again, InOrder]);
        assert_eq!(entered(&[63, 0, 0]), [InOrder, Late, Again]);
    }

    #[test]
    fn what_nobody_remembers_counts_as_seen() {
        assert_eq!(entered(&[64, 0]), [InOrder, Again]);
        assert_eq!(entered(&[0, 1_000_000, 999_937, 999_936]), [InOrder, InOrder, Late, Again]);
    }
}
