//! When each append is due. The times are fixed before the run, so that a server that stalls is seen to stall: whoever sends the
//! next record only after the last answer leaves out exactly the records that would have had to wait.

use std::time::Duration;

/// The times of one writer's appends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    start_us: u64,
    /// From one append of the stream to the next, in ns, since a µs is too coarse for a million a second.
    every_ns: u64,
    /// Appends of the stream, and which of them are this writer's: `next`, and each `writers`-th behind it.
    appends: u64,
    next: u64,
    writers: u64,
}

impl Schedule {
    /// Of writer `writer` of `writers`, who share `appends` appends, one every `every` from `start_us` on.
    pub(crate) fn new(start_us: u64, every: Duration, appends: u64, writer: usize, writers: usize) -> Self {
        let every_ns = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
        Self { start_us, every_ns, appends, next: writer as u64, writers: writers as u64 }
    }

    /// When the next append is due; `None` behind the last.
    pub(crate) fn due_us(&self) -> Option<u64> {
        (self.next < self.appends)
            .then(|| self.start_us + (u128::from(self.next) * u128::from(self.every_ns) / 1_000) as u64)
    }

    /// The next append was sent.
    pub(crate) fn advance(&mut self) {
        self.next += self.writers;
    }

    /// Appends not yet sent.
    pub(crate) fn left(&self) -> u64 {
        self.appends.saturating_sub(self.next).div_ceil(self.writers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_share_the_appends_in_turn() {
        let mut schedules = [0, 1].map(|writer| Schedule::new(1_000, Duration::from_micros(10), 5, writer, 2));
        assert_eq!(schedules.map(|schedule| schedule.left()), [3, 2]);
        let mut due = Vec::new();
        for schedule in &mut schedules {
            while let Some(at) = schedule.due_us() {
                due.push(at);
                schedule.advance();
            }
        }
        assert_eq!(due, [1_000, 1_020, 1_040, 1_010, 1_030]);
    }

    #[test]
    fn times_do_not_drift_at_rates_that_are_no_whole_number_of_microseconds() {
        let mut schedule = Schedule::new(0, Duration::from_secs_f64(1.0 / 3_000_000.0), 3_000_001, 0, 1);
        schedule.next = 3_000_000;
        assert_eq!(schedule.due_us(), Some(999_000));
    }
}
