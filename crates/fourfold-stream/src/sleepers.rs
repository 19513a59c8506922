//! The cursors of one shard that sleep on one stream.
//!
//! A row of wakers that is walked in order: waking a thousand cursors touches 24 KB in a line, and a cursor that goes to sleep again
//! finds its waker still there. A list of futures, one allocation each, would be a miss of the cache for each of them.

use std::task::{Context, Waker};

/// Sleepers, each at a seat that it keeps as long as it lives.
#[derive(Debug, Default)]
pub(crate) struct Sleepers {
    seats: Vec<Seat>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Seat {
    /// Kept over wake-ups: it is nearly always the same task that comes back.
    waker: Option<Waker>,
    asleep: bool,
}

impl Sleepers {
    /// Falls asleep at its seat, or at a new one; returns which.
    pub(crate) fn sleep(&mut self, seat: Option<u32>, cx: &Context<'_>) -> u32 {
        let number = seat.unwrap_or_else(|| self.sit());
        let seat = &mut self.seats[number as usize];
        seat.asleep = true;
        match &mut seat.waker {
            Some(waker) => waker.clone_from(cx.waker()), // Clones nothing if it is the same task's.
            none => *none = Some(cx.waker().clone()),
        }
        number
    }

    /// Gives a seat back.
    pub(crate) fn leave(&mut self, number: u32) {
        self.seats[number as usize] = Seat { waker: None, asleep: false };
        self.free.push(number);
        if self.free.len() == self.seats.len() {
            *self = Self::default(); // The last one out: a crowd that has gone costs nothing.
        }
    }

    /// Wakes all who sleep.
    pub(crate) fn wake(&mut self) {
        for seat in &mut self.seats {
            if std::mem::take(&mut seat.asleep)
                && let Some(waker) = &seat.waker
            {
                waker.wake_by_ref();
            }
        }
    }

    fn sit(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.seats.push(Seat { waker: None, asleep: false });
            u32::try_from(self.seats.len() - 1).expect("a process has fewer sockets than that")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
        task::Wake,
    };

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn who_sleeps_is_woken_once_and_who_has_left_is_not() {
        let (a, b) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let (to_a, to_b) = (Waker::from(Arc::clone(&a)), Waker::from(Arc::clone(&b)));
        let mut sleepers = Sleepers::default();
        let first = sleepers.sleep(None, &Context::from_waker(&to_a));
        let second = sleepers.sleep(None, &Context::from_waker(&to_b));
        sleepers.wake();
        sleepers.wake();
        assert_eq!((a.0.load(SeqCst), b.0.load(SeqCst)), (1, 1));
        assert_eq!(sleepers.sleep(Some(first), &Context::from_waker(&to_a)), first);
        sleepers.leave(second);
        sleepers.wake();
        assert_eq!((a.0.load(SeqCst), b.0.load(SeqCst)), (2, 1));
    }

    #[test]
    fn a_seat_that_was_given_back_is_taken_again_by_another() {
        let (a, b) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let mut sleepers = Sleepers::default();
        let seats: Vec<_> =
            (0..3).map(|_| sleepers.sleep(None, &Context::from_waker(&Waker::from(Arc::clone(&a))))).collect();
        sleepers.leave(seats[1]);
        assert_eq!(sleepers.sleep(None, &Context::from_waker(&Waker::from(Arc::clone(&b)))), seats[1]);
        sleepers.wake();
        assert_eq!((a.0.load(SeqCst), b.0.load(SeqCst)), (2, 1));
        seats.into_iter().for_each(|seat| sleepers.leave(seat));
        assert!(sleepers.seats.is_empty() && sleepers.free.is_empty());
    }
}
