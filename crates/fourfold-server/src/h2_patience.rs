//! How long a stream of HTTP/2 may take nothing, though its connection is alive.
//!
//! HTTP/2 asks an answer for more when the client has given it room. A stream that waits, but whose answer (or service) was not asked when it was
//! last looked at, waits for its client to take something; so long as that lasts, its time runs.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, ready},
};

use hyper::rt::Executor;
use tokio::time::{Instant, Sleep, sleep};

use crate::budget;

thread_local! {
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

/// Says that the stream which is looked at now does not wait for its client.
pub(crate) fn asked() {
    ASKED.set(true);
}

/// The streams of a connection: starts a task for each, and counts them.
#[derive(Clone, Debug)]
pub(crate) struct Streams(Arc<Mutex<Account>>);

#[derive(Debug)]
struct Account {
    open: usize,
    /// When the last one began or ended.
    changed: Instant,
}

impl Streams {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Account { open: 0, changed: Instant::now() })))
    }

    /// Since when there is none.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let account = self.account();
        (account.open == 0).then_some(account.changed)
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.0.lock().expect("nobody panics while it counts streams")
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        {
            let mut account = self.account();
            account.open += 1;
            account.changed = Instant::now();
        }
        tokio::spawn(Patient { stream: Box::pin(stream), stalled: None, _counted: Counted(self.clone()) });
    }
}

struct Counted(Streams);

impl Drop for Counted {
    fn drop(&mut self) {
        let mut account = self.0.account();
        account.open -= 1;
        account.changed = Instant::now();
    }
}

/// A stream, for as long as its client takes something now and then. Dropped, it resets the stream.
struct Patient<F> {
    stream: Pin<Box<F>>,
    stalled: Option<Pin<Box<Sleep>>>,
    _counted: Counted,
}

impl<F: Future<Output = ()>> Future for Patient<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        ASKED.set(false);
        if self.stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if ASKED.get() {
            self.stalled = None;
            return Poll::Pending;
        }
        let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(budget::stall_wait())));
        ready!(timer.as_mut().poll(cx));
        tracing::debug!("a stream's client took nothing for too long");
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, poll_fn},
        time::Duration,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_waits_for_its_client_is_dropped_at_the_deadline_and_no_other() {
        let streams = Streams::new();
        streams.execute(pending::<()>()); // As one whose answer has a frame that does not go.
        streams.execute(poll_fn(|_| {
            asked(); // As one whose answer waits for a record.
            Poll::<()>::Pending
        }));
        tokio::time::sleep(budget::stall_wait() - Duration::from_secs(1)).await;
        assert_eq!(streams.account().open, 2);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(streams.account().open, 1);
    }
}
