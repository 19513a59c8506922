//! What is in the stream against what the writers were told.

use std::collections::HashMap;

use crate::{
    reader::position,
    records::Kind,
    writer::{Account, Batch, Fate},
};

/// How many records are what they should not be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// In the stream.
    pub(super) records: usize,
    /// Acknowledged and not there.
    pub(super) lost: usize,
    /// There more than once.
    pub(super) doubled: usize,
    /// Behind a later one of the same writer.
    pub(super) reordered: usize,
    /// Acknowledged with another offset than where they are.
    pub(super) displaced: usize,
    /// Of an append that is there in part, or with others' records in between.
    pub(super) torn: usize,
    /// Not to the letter what anybody wrote.
    pub(super) foreign: usize,
}

impl Tally {
    pub(super) fn is_clean(&self) -> bool {
        *self == Self { records: self.records, ..Self::default() } && self.records > 0
    }
}

pub(super) fn tally(kind: Kind, records: &[String], accounts: &[Account]) -> Tally {
    let mut tally = Tally { records: records.len(), ..Tally::default() };
    let mut places: HashMap<(String, u64), usize> = HashMap::new();
    let mut newest: HashMap<String, u64> = HashMap::new();
    for (place, record) in records.iter().enumerate() {
        let Some((writer, n)) = kind.read(record) else {
            tally.foreign += 1;
            continue;
        };
        let is_later = newest.get(&writer).is_none_or(|newest| n > *newest);
        if places.insert((writer.clone(), n), place).is_some() {
            tally.doubled += 1;
        } else if is_later {
            newest.insert(writer, n);
        } else {
            tally.reordered += 1;
        }
    }
    for account in accounts {
        for batch in &account.batches {
            compare(&mut tally, batch, |n| places.remove(&(account.writer.clone(), n)));
        }
    }
    tally.foreign += places.len(); // of no batch
    tally
}

fn compare(tally: &mut Tally, batch: &Batch, mut take: impl FnMut(u64) -> Option<usize>) {
    let length = usize::try_from(batch.numbers.end - batch.numbers.start).expect("batches are small");
    let found: Vec<usize> = batch.numbers.clone().filter_map(&mut take).collect();
    if batch.fate != Fate::Unknown {
        tally.lost += length - found.len();
    }
    if let Some(first) = found.first()
        && !found.iter().copied().eq(*first..first + length)
    {
        tally.torn += found.len();
    }
    let end = found.last().map(|last| last + 1);
    let is_told = match &batch.fate {
        Fate::At(offset) => end.is_none_or(|end| end == position(offset)),
        Fate::Before(offset) => end.is_none_or(|end| end <= position(offset)),
        Fate::Unknown => true,
    };
    if !is_told {
        tally.displaced += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(numbers: std::ops::Range<u64>, end: usize) -> Batch {
        Batch { numbers, fate: Fate::At(format!("0_{end:016}")) }
    }

    fn of(numbers: &[u64], batches: Vec<Batch>) -> Tally {
        let records: Vec<_> = numbers.iter().map(|n| Kind::Text.record("w", *n)).collect();
        tally(Kind::Text, &records, &[Account { writer: "w".into(), batches }])
    }

    #[test]
    fn every_fault_is_counted() {
        let two = || vec![batch(0..2, 2), batch(2..4, 4)];
        assert!(of(&[0, 1, 2, 3], two()).is_clean());
        assert_eq!(of(&[0, 1, 2], two()), Tally { records: 3, lost: 1, torn: 1, displaced: 2, ..Tally::default() });
        assert_eq!(of(&[0, 1], two()), Tally { records: 2, lost: 2, ..Tally::default() });
        assert_eq!(of(&[0, 1, 2, 3, 3], two()).doubled, 1);
        assert_eq!(of(&[2, 3, 0, 1], two()).reordered, 2);
        assert_eq!(of(&[0, 1, 2, 3, 7], two()).foreign, 1);
        assert_eq!(of(&[2, 3], vec![Batch { numbers: 0..2, fate: Fate::Unknown }, batch(2..4, 2)]).lost, 0);
    }
}
