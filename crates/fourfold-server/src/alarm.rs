//! A timer that is moved often and rings seldom: moving it later costs nothing.
//!
//! A connection has a deadline for each request and each wait, and meets nearly all of them. Registering each with the runtime would cost a lock and
//! a place in its wheel every time; here the runtime's timer stays where it is, and a ring that comes too early is only moved on.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline.
#[derive(Debug)]
pub(crate) struct Alarm {
    at: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Alarm {
    /// Rings after so long.
    pub(crate) fn new(after: Duration) -> Self {
        let at = Instant::now() + after;
        Self { at, sleep: Box::pin(sleep_until(at)) }
    }

    /// Rings then instead.
    pub(crate) fn set(&mut self, at: Instant) {
        self.at = at;
        if at < self.sleep.deadline() {
            self.sleep.as_mut().reset(at);
        }
    }

    /// When it rings.
    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    /// Ready at the deadline, and whenever it is asked after that.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= self.at {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(self.at);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn it_rings_when_it_was_last_set_to() {
        let start = Instant::now();
        let mut alarm = Alarm::new(Duration::from_secs(15));
        for at in [20, 35, 3] {
            alarm.set(start + Duration::from_secs(at));
        }
        poll_fn(|cx| alarm.poll(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 3);
        alarm.set(start + Duration::from_secs(10));
        alarm.set(start + Duration::from_secs(40));
        poll_fn(|cx| alarm.poll(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 40);
    }
}
