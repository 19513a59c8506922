//! The way to the committer: bounded by number and by bytes, in the order of the calls.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard},
    time::Instant,
};

use fourfold_stream::Unavailable;

/// So many operations may wait: at 100,000 a second, a sixth of a second's worth. More would only wait longer.
pub const QUEUE_OPS_MAX: usize = 16_384;

/// So many bytes may wait. One operation alone may be larger.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// So many operations go into one group: what one failed sync can take along.
pub const GROUP_OPS_MAX: usize = 4_096;

/// So many bytes go into one group, so that the first in it does not wait for megabytes of others. One operation alone may be larger.
pub const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A bounded queue of operations and their sizes.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Waiting<T> {
    ops: VecDeque<(usize, T)>,
    bytes: usize,
    closed: bool,
    /// The committer sleeps: ringing one that works is a system call for nothing.
    asleep: bool,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        let waiting = Waiting { ops: VecDeque::new(), bytes: 0, closed: false, asleep: false };
        Self { waiting: Mutex::new(waiting), changed: Condvar::new() }
    }

    pub(crate) fn push(&self, bytes: usize, op: T) -> Result<(), Unavailable> {
        let mut waiting = self.waiting();
        if waiting.closed {
            return Err(Unavailable::Failed("the engine has ended".into()));
        }
        let full = waiting.ops.len() >= QUEUE_OPS_MAX || waiting.bytes.saturating_add(bytes) > QUEUE_BYTES_MAX;
        if full && !waiting.ops.is_empty() {
            return Err(Unavailable::Overloaded);
        }
        waiting.bytes = waiting.bytes.saturating_add(bytes);
        waiting.ops.push_back((bytes, op));
        let asleep = std::mem::take(&mut waiting.asleep);
        drop(waiting);
        if asleep {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// The next group, waiting for it until `deadline`; `None` when the queue is closed and empty.
    pub(crate) fn group(&self, deadline: Instant) -> Option<Vec<T>> {
        let mut waiting = self.waiting();
        while waiting.ops.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if waiting.closed {
                return None;
            }
            if left.is_zero() {
                return Some(Vec::new());
            }
            waiting.asleep = true;
            let woken = self.changed.wait_timeout(waiting, left);
            waiting = woken.expect("no code panics while it holds the queue").0;
            waiting.asleep = false;
        }
        let mut group = Vec::new();
        let mut bytes = 0_usize;
        while let Some((size, _)) = waiting.ops.front() {
            bytes = bytes.saturating_add(*size);
            if !group.is_empty() && (group.len() >= GROUP_OPS_MAX || bytes > GROUP_BYTES_MAX) {
                break;
            }
            let (size, op) = waiting.ops.pop_front().expect("it was in front");
            waiting.bytes = waiting.bytes.saturating_sub(size);
            group.push(op);
        }
        Some(group)
    }

    /// How many operations wait, and how many bytes are in them.
    pub(crate) fn waits(&self) -> (u64, u64) {
        let waiting = self.waiting();
        (waiting.ops.len() as u64, waiting.bytes as u64)
    }

    /// No more goes in; what is in comes out.
    pub(crate) fn close(&self) {
        self.waiting().closed = true;
        self.changed.notify_one();
    }

    /// Nobody will take any more: what waits is dropped.
    pub(crate) fn abandon(&self) {
        let mut waiting = self.waiting();
        waiting.closed = true;
        waiting.ops.clear();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().expect("no code panics while it holds the queue")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later() -> Instant {
        Instant::now() + std::time::Duration::from_secs(10)
    }

    #[test]
    fn a_large_one_goes_in_alone() {
        let queue = Queue::new();
        queue.push(usize::MAX, 'a').unwrap();
        assert_eq!(queue.push(1, 'b'), Err(Unavailable::Overloaded));
        assert_eq!(queue.group(later()), Some(vec!['a']));
        queue.push(1, 'b').unwrap();
        queue.push(GROUP_BYTES_MAX, 'c').unwrap();
        assert_eq!(queue.group(later()), Some(vec!['b']));
        assert_eq!(queue.group(later()), Some(vec!['c']));
    }

    #[test]
    fn number_and_bytes_are_bounded() {
        let queue = Queue::new();
        (0..QUEUE_OPS_MAX).for_each(|n| queue.push(0, n).unwrap());
        assert_eq!(queue.push(0, 0), Err(Unavailable::Overloaded));
        assert_eq!(queue.group(later()), Some((0..GROUP_OPS_MAX).collect()));
    }

    #[test]
    fn a_closed_queue_is_emptied_first() {
        let queue = Queue::new();
        queue.push(0, 'a').unwrap();
        queue.close();
        assert!(queue.push(0, 'b').is_err());
        assert_eq!(queue.group(later()), Some(vec!['a']));
        assert_eq!(queue.group(later()), None);
    }
}
