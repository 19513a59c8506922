//! How often a stream moves, for the advice when to poll again.

use std::time::{Duration, Instant};

/// No advice is shorter: more often than this, a long poll is what the poller wants.
pub const POLL_AFTER_MS_MIN: u64 = 100;
/// No advice is longer: this is how late a poller may learn of the first record after a long silence.
pub const POLL_AFTER_MS_MAX: u64 = 30_000;

const JITTER_MIN: f32 = 0.8;
const JITTER_MAX: f32 = 1.2;

/// A smoothed interval between appends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    last: Instant,
    interval_ms: f32,
}

impl Pace {
    pub(crate) fn starting(now: Instant) -> Self {
        Self { last: now, interval_ms: 0.0 }
    }

    pub(crate) fn moved(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.last).as_secs_f32() * 1000.0;
        // A quarter of the news: a changed pace is followed within a few records, one straggler does not change it.
        self.interval_ms += (since - self.interval_ms) / 4.0;
        self.last = now;
    }

    /// When it is worth asking again: after the usual interval, or, if the stream has been silent for longer than that, after as
    /// long as it has been silent (so the advice doubles from poll to poll). `unit` from 0 to 1 is the jitter: without it
    /// pollers would come in herds.
    pub(crate) fn poll_after(&self, now: Instant, unit: f32) -> Duration {
        let silent = now.saturating_duration_since(self.last).as_secs_f32() * 1000.0;
        // The jitter stays within the bounds, so that advice at a bound is spread as well.
        let (min, max) = (POLL_AFTER_MS_MIN as f32 / JITTER_MIN, POLL_AFTER_MS_MAX as f32 / JITTER_MAX);
        let jitter = JITTER_MIN + (JITTER_MAX - JITTER_MIN) * unit;
        Duration::from_millis((silent.max(self.interval_ms).clamp(min, max) * jitter).round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(appends: u64, every_ms: u64, silent_ms: u64, unit: f32) -> u64 {
        let start = Instant::now();
        let mut pace = Pace::starting(start);
        for n in 1..=appends {
            pace.moved(start + Duration::from_millis(n * every_ms));
        }
        let now = start + Duration::from_millis(appends * every_ms + silent_ms);
        u64::try_from(pace.poll_after(now, unit).as_millis()).unwrap()
    }

    #[test]
    fn a_busy_stream_is_polled_at_its_pace() {
        let advice = after(50, 250, 0, 0.5);
        assert!((240..=260).contains(&advice), "{advice}");
    }

    #[test]
    fn an_idle_stream_is_polled_rarely_and_within_bounds() {
        assert_eq!(after(50, 250, 8_000, 0.5), 8_000);
        assert_eq!(after(50, 250, 3_600_000, 1.0), POLL_AFTER_MS_MAX);
        assert_eq!(after(5_000, 1, 0, 0.0), POLL_AFTER_MS_MIN);
    }

    #[test]
    fn advice_is_jittered() {
        assert!(after(50, 1_000, 0, 0.0) < after(50, 1_000, 0, 1.0));
    }
}
