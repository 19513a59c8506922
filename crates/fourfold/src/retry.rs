//! When to try again: exponential back-off with full jitter, a server's own advice first, and one line to the person who
//! waits.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use indicatif::ProgressBar;
use tokio::time::Instant;

/// The first wait is somewhere below this; each further one may be twice as long.
const BASE: Duration = Duration::from_millis(100);

/// No wait of our own is longer: a server that is back should have its clients back soon.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// No advice of a server is followed for longer.
const ADVICE_MAX: Duration = Duration::from_secs(300);

/// The state between two successes.
#[derive(Debug)]
pub(crate) struct Retry {
    server: String,
    failures: u32,
    since: Option<Instant>,
    limit: Option<Duration>,
    /// What goes to standard error; silent in tests.
    told: bool,
}

/// It has failed for longer than was asked for.
#[derive(Debug, thiserror::Error)]
#[error("gave up on {server} after {seconds} s: {why}")]
pub(crate) struct GaveUp {
    server: String,
    seconds: u64,
    why: String,
}

impl Retry {
    /// For `server`; gives up when nothing has succeeded for `limit`, or never.
    pub(crate) fn new(server: &str, limit: Option<Duration>) -> Self {
        Self { server: server.to_owned(), failures: 0, since: None, limit, told: false }
    }

    /// Something succeeded: the next failure is the first again.
    pub(crate) fn reset(&mut self) {
        if std::mem::take(&mut self.told) {
            tell(&format!("reached {} again", self.server));
        }
        self.failures = 0;
        self.since = None;
    }

    /// Waits until the next try: at least `after`, if the server gave advice, which is jittered already.
    ///
    /// Errors: it has failed for longer than the limit. Cancel-safe.
    pub(crate) async fn wait(&mut self, why: &str, after: Option<Duration>) -> Result<(), GaveUp> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if let Some(limit) = self.limit
            && since.elapsed() >= limit
        {
            return Err(GaveUp {
                server: self.server.clone(),
                seconds: since.elapsed().as_secs(),
                why: why.to_owned(),
            });
        }
        // The first failure is often a restart that is over before anybody would have read a line about it.
        if self.failures == 1 && !self.told {
            tell(&format!("cannot reach {}: {why}; trying again", self.server));
            self.told = true;
        }
        let own = jitter(ceiling(self.failures));
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(match after {
            Some(advice) if self.failures == 1 => advice.min(ADVICE_MAX),
            Some(advice) => advice.min(ADVICE_MAX) + own,
            None => own,
        })
        .await;
        Ok(())
    }
}

/// One line for the person at the terminal.
pub(crate) fn tell(line: &str) {
    tell_plainly(&format!("fourfold: {line}"));
}

/// The same without saying who speaks.
pub(crate) fn tell_plainly(line: &str) {
    use std::io::Write;
    // Nobody is left to tell if standard error is gone.
    let write = || drop(writeln!(std::io::stderr(), "{line}"));
    match &*bar() {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// From now on lines are written above this bar, which is on standard error as well.
pub(crate) fn tell_beside(other: Option<ProgressBar>) {
    *bar() = other;
}

fn bar() -> MutexGuard<'static, Option<ProgressBar>> {
    static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None); // A command has one at most, as it has one standard error.
    BAR.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ceiling(failures: u32) -> Duration {
    BASE.saturating_mul(2_u32.saturating_pow(failures)).min(WAIT_MAX)
}

/// Somewhere from nothing to `max`, evenly.
fn jitter(max: Duration) -> Duration {
    let part = f64::from(u32::try_from(random() >> 32).expect("the upper half of 64 bits fits in 32"));
    max.mul_f64(part / f64::from(u32::MAX))
}

/// 64 bits that differ from call to call and from process to process; no secret.
pub(crate) fn random() -> u64 {
    // Its keys come from the operating system, which spares a dependency.
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_to_its_bound_and_is_spread_below_it() {
        assert_eq!(ceiling(0), BASE);
        assert_eq!(ceiling(3), BASE * 8);
        assert_eq!(ceiling(60), WAIT_MAX);
        let waits: Vec<Duration> = (0..200).map(|_| jitter(WAIT_MAX)).collect();
        assert!(waits.iter().all(|wait| *wait <= WAIT_MAX));
        assert!(waits.iter().any(|wait| *wait < WAIT_MAX / 2) && waits.iter().any(|wait| *wait > WAIT_MAX / 2));
    }

    #[tokio::test]
    async fn it_gives_up_when_nothing_succeeds_for_the_limit() {
        let mut retry = Retry::new("http://host", Some(Duration::ZERO));
        let error = retry.wait("connection refused", None).await.unwrap_err();
        assert_eq!(error.to_string(), "gave up on http://host after 0 s: connection refused");
    }
}
