//! Memory that many share: what has come of bodies that are not whole yet, and what is held for readers that take no more, and for how long.
//!
//! Each is bounded for one connection already; this bounds all of them together. The budgets belong to a server, and each of its shards' threads knows
//! them, so that they need not be handed down to whoever writes a byte.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::limits::STALL_WAIT_DEFAULT;

/// Bytes that many share.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    max: AtomicUsize,
}

/// The budgets of a server.
#[derive(Clone, Debug)]
pub(crate) struct Budgets {
    /// What has come of bodies and messages that are not whole yet.
    pub(crate) bodies: Arc<Budget>,
    /// What is held for readers that take no more.
    pub(crate) unsent: Arc<Budget>,
    /// For how many milliseconds.
    stall_wait_ms: Arc<AtomicU64>,
}

impl Default for Budgets {
    fn default() -> Self {
        let budgets = Self { bodies: Arc::default(), unsent: Arc::default(), stall_wait_ms: Arc::default() };
        budgets.set_stall_wait(STALL_WAIT_DEFAULT);
        budgets
    }
}

/// What was taken of a budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    budget: Arc<Budget>,
    bytes: usize,
}

thread_local! {
    static OURS: RefCell<Budgets> = RefCell::default();
}

impl Budgets {
    /// This thread works for the server that they belong to.
    pub(crate) fn enter(&self) {
        OURS.set(self.clone());
    }

    /// A reader may take no byte for so long.
    pub(crate) fn set_stall_wait(&self, wait: Duration) {
        self.stall_wait_ms.store(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }
}

/// Nothing yet, of bodies.
pub(crate) fn of_bodies() -> Taken {
    OURS.with_borrow(|ours| Taken { budget: Arc::clone(&ours.bodies), bytes: 0 })
}

/// Nothing yet, of what is unsent.
pub(crate) fn of_unsent() -> Taken {
    OURS.with_borrow(|ours| Taken { budget: Arc::clone(&ours.unsent), bytes: 0 })
}

/// How long a reader may take no byte.
pub(crate) fn stall_wait() -> Duration {
    OURS.with_borrow(|ours| Duration::from_millis(ours.stall_wait_ms.load(Relaxed)))
}

impl Default for Budget {
    fn default() -> Self {
        Self { used: AtomicUsize::new(0), max: AtomicUsize::new(usize::MAX) }
    }
}

impl Budget {
    pub(crate) fn set_max(&self, max: usize) {
        self.max.store(max, Relaxed);
    }

    pub(crate) fn max(&self) -> usize {
        self.max.load(Relaxed)
    }

    /// How much of it is taken now.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }
}

impl Taken {
    /// Nothing yet of it.
    pub(crate) fn of(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// So many in all; false, and all stays as it was, if that would be too many.
    pub(crate) fn reach(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return true;
        }
        let used = self.budget.used.fetch_add(more, Relaxed);
        if used.saturating_add(more) > self.budget.max() {
            self.budget.used.fetch_sub(more, Relaxed);
            return false;
        }
        self.bytes = bytes;
        true
    }

    /// How much there is in all.
    pub(crate) fn max(&self) -> usize {
        self.budget.max()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_and_too_much_is_not_taken() {
        let budgets = Budgets::default();
        budgets.bodies.set_max(10);
        budgets.enter();
        let (mut one, mut other) = (of_bodies(), of_bodies());
        assert!(one.reach(6) && one.reach(2) && other.reach(4));
        assert!(!other.reach(5) && !one.reach(7));
        assert_eq!(budgets.bodies.used(), 10);
        drop(one);
        assert!(other.reach(10));
        drop(other);
        assert_eq!(budgets.bodies.used(), 0);
    }
}
