//! What has happened so far: [`Tally`] belongs to the thread that reads, [`Progress`] is what others see of it.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use hdrhistogram::Histogram;

use super::{
    account::{Account, Arrival},
    record::Mark,
};

/// A latency of more is entered as this, in µs: an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Latencies in µs, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are constants")
}

/// Counts of what readers did and had.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Connections made.
    pub(crate) opened: u64,
    /// Connections that could not be made.
    pub(crate) failed: u64,
    /// Readers that wait for records.
    pub(crate) ready: u64,
    /// Connections that ended although more was to come.
    pub(crate) ended: u64,
    /// Polling readers that had to connect again.
    pub(crate) reconnected: u64,
    /// Answers that refuse.
    pub(crate) refused: u64,
    /// Requests sent.
    pub(crate) requests: u64,
    /// Bytes sent.
    pub(crate) sent: u64,
    /// Bytes received.
    pub(crate) received: u64,
    /// Reads that brought bytes.
    pub(crate) reads: u64,
    /// Records that came to a subscriber for the first time.
    pub(crate) delivered: u64,
    /// Those whose time was within the measured time.
    pub(crate) measured: u64,
    /// Records that came again.
    pub(crate) again: u64,
    /// Records that came behind later ones.
    pub(crate) late: u64,
    /// Records that ended before their end.
    pub(crate) cut: u64,
    /// Records that came to an idle reader.
    pub(crate) idle: u64,
    /// CPU time of the thread, in µs.
    pub(crate) cpu_us: u64,
}

/// All that readers have had.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) counts: Counts,
    pub(crate) latency: Histogram<u64>,
    /// Records from then on are measured.
    pub(crate) measured_from_us: u64,
    writers: usize,
    /// For each reader one for each writer of its stream.
    accounts: Vec<Account>,
    /// New records of each reader.
    new: Vec<u64>,
    /// The first thing that went wrong.
    pub(crate) first_error: Option<String>,
}

impl Tally {
    /// Of so many subscribers, to each of whose streams so many writers append.
    pub(crate) fn new(subscribers: usize, writers: usize) -> Self {
        Self {
            counts: Counts::default(),
            latency: histogram(),
            measured_from_us: u64::MAX,
            writers,
            accounts: vec![Account::default(); subscribers * writers],
            new: vec![0; subscribers],
            first_error: None,
        }
    }

    /// A record has come to a subscriber.
    pub(crate) fn arrive(&mut self, subscriber: usize, mark: Mark, now_us: u64) {
        let writer = mark.writer as usize;
        if writer >= self.writers {
            self.counts.cut += 1; // None of ours is like that.
            return;
        }
        match self.accounts[subscriber * self.writers + writer].enter(mark.sequence) {
            Arrival::Again => {
                self.counts.again += 1;
                return;
            }
            Arrival::Late => self.counts.late += 1,
            Arrival::InOrder => {}
        }
        self.new[subscriber] += 1;
        self.counts.delivered += 1;
        if mark.intended_us >= self.measured_from_us {
            self.counts.measured += 1;
            self.latency.saturating_record(now_us.saturating_sub(mark.intended_us));
        }
    }

    /// Remembers the first error.
    pub(crate) fn blame(&mut self, why: impl FnOnce() -> String) {
        self.first_error.get_or_insert_with(why);
    }

    /// How many records each subscriber has had.
    pub(crate) fn new_of_each(&self) -> &[u64] {
        &self.new
    }
}

macro_rules! progress {
    ($($field:ident)*) => {
        /// What other threads see of the reading one, some milliseconds late.
        #[derive(Debug, Default)]
        pub(crate) struct Progress {
            $($field: AtomicU64,)*
            /// Set by the thread that leads: [`Tally::measured_from_us`].
            pub(crate) measured_from_us: AtomicU64,
            first_error: Mutex<Option<String>>,
        }

        impl Progress {
            /// Shows the counts.
            pub(crate) fn publish(&self, counts: &Counts) {
                $(self.$field.store(counts.$field, Relaxed);)*
            }

            /// The counts as last shown.
            pub(crate) fn counts(&self) -> Counts {
                Counts { $($field: self.$field.load(Relaxed),)* }
            }
        }
    };
}

progress! { opened failed ready ended reconnected refused requests sent received reads delivered measured again late cut idle cpu_us }

impl Progress {
    /// Shows what went wrong first.
    pub(crate) fn publish_error(&self, why: &str) {
        *self.first_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
    }

    /// What went wrong first.
    pub(crate) fn error(&self) -> Option<String> {
        self.first_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
