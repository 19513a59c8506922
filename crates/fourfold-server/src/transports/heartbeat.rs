//! A word in silence for those who have asked for one: a page sees neither comments nor pings, and not every cut is told.

use std::{num::NonZeroU8, time::Duration};

use tokio::time::Instant;

use crate::limits::{HEARTBEAT_SECONDS_MAX, PING};

/// After so many seconds without a word a reader is told where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heartbeat(NonZeroU8);

impl Heartbeat {
    /// At most [`HEARTBEAT_SECONDS_MAX`]; `None` for 0.
    pub(crate) fn of_seconds(seconds: u64) -> Option<Self> {
        let seconds = u8::try_from(seconds).unwrap_or(HEARTBEAT_SECONDS_MAX).min(HEARTBEAT_SECONDS_MAX);
        NonZeroU8::new(seconds).map(Self)
    }

    pub(crate) fn every(self) -> Duration {
        Duration::from_secs(self.0.get().into())
    }
}

/// A WebSocket's heartbeat, beside its pings: a word puts off the one and not the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pulse {
    heartbeat: Heartbeat,
    beat_at: Instant,
    ping_at: Instant,
}

impl Pulse {
    pub(crate) fn new(heartbeat: Heartbeat, now: Instant) -> Self {
        Self { heartbeat, beat_at: now + heartbeat.every(), ping_at: now + PING }
    }

    /// The client was told something.
    pub(crate) fn spoke(&mut self, now: Instant) {
        self.beat_at = now + self.heartbeat.every();
    }

    /// When to look again.
    pub(crate) fn alarm(&self) -> Instant {
        self.beat_at.min(self.ping_at)
    }

    /// Whether a beat is due, which is taken as written.
    pub(crate) fn beat_is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.beat_at;
        if due {
            self.spoke(now);
        }
        due
    }

    /// Whether a ping is due, which is taken as written.
    pub(crate) fn ping_is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.ping_at;
        if due {
            self.ping_at = now + PING;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse(seconds: u64, start: Instant) -> Pulse {
        Pulse::new(Heartbeat::of_seconds(seconds).expect("more than 0"), start)
    }

    #[test]
    fn in_silence_both_come_in_their_time() {
        let start = Instant::now();
        for seconds in [1, 7, 30, 60] {
            let mut pulse = pulse(seconds, start);
            let (mut beats, mut pings) = (0, 0);
            while pulse.alarm() <= start + 10 * PING {
                let now = pulse.alarm();
                beats += u64::from(pulse.beat_is_due(now));
                pings += u64::from(pulse.ping_is_due(now));
                assert!(pulse.alarm() > now, "nothing is due twice");
            }
            assert_eq!((beats, pings), (300 / seconds, 10), "{seconds}");
        }
    }

    #[test]
    fn words_put_off_the_beat_and_not_the_ping() {
        let start = Instant::now();
        let mut pulse = pulse(5, start);
        for second in 0..30 {
            let now = start + Duration::from_secs(second);
            assert!(!pulse.beat_is_due(now) && !pulse.ping_is_due(now));
            pulse.spoke(now);
            assert_eq!(pulse.alarm(), start + Duration::from_secs((second + 5).min(30)));
        }
        assert!(pulse.ping_is_due(start + PING));
    }
}
