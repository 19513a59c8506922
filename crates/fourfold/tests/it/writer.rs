//! Writers that number their records and keep account of what they were told about each.

mod pipeline;
mod post;

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

pub(crate) use pipeline::pipeline;
pub(crate) use post::{Post, create, plain, producer};

use crate::{records::Kind, seeded::Seeded};

/// A word to those who write: it is enough.
#[derive(Clone, Debug, Default)]
pub(crate) struct Enough(Arc<AtomicBool>);

impl Enough {
    pub(crate) fn say(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn said(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What became of one append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Acknowledged with this offset, which lies right behind its records.
    At(String),
    /// Acknowledged as a duplicate: its records lie somewhere before this offset.
    Before(String),
    /// The connection was cut before the answer: it may be there or not.
    Unknown,
}

/// Records that were appended in one step.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) numbers: Range<u64>,
    pub(crate) fate: Fate,
}

/// A writer's account, in the order in which it wrote.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) writer: String,
    pub(crate) batches: Vec<Batch>,
}

impl Account {
    pub(crate) fn new(writer: &str) -> Self {
        Self { writer: writer.to_owned(), batches: Vec::new() }
    }

    /// The numbers of the next batch, of at most so many records.
    fn next(&self, chance: &mut Seeded, records_max: u64) -> Range<u64> {
        let from = self.batches.last().map_or(0, |batch| batch.numbers.end);
        from..from + chance.within(1..records_max + 1)
    }

    /// How many records were acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        let known = self.batches.iter().filter(|batch| batch.fate != Fate::Unknown);
        known.map(|batch| batch.numbers.end - batch.numbers.start).sum()
    }

    /// How many appends have this sort of fate.
    pub(crate) fn count(&self, is: impl Fn(&Fate) -> bool) -> usize {
        self.batches.iter().filter(|batch| is(&batch.fate)).count()
    }
}

fn records(kind: Kind, writer: &str, numbers: &Range<u64>) -> Vec<String> {
    numbers.clone().map(|n| kind.record(writer, n)).collect()
}
