//! How often something may happen: the generic cell rate algorithm, a bucket in one number.
//!
//! A bucket holds the time at which it will be full again. What happens moves that time on by an interval; if it would then lie further ahead than
//! the burst is long, it does not happen, and the difference is how long to wait. So in any window of a length there are never more than the burst
//! and what the rate gives in that time. No allocation, no lock, no timer: a bucket that is left alone fills by itself.

use std::{
    fmt,
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// So many in so long, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: NonZeroU32,
    per: Per,
    burst: NonZeroU32,
}

/// What a rate is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Per {
    Second,
    Minute,
    Hour,
}

/// The greatest count and burst of a rate: with them no sum of nanoseconds overflows.
pub(crate) const RATE_MAX: u32 = 1_000_000;

impl Rate {
    /// So many a second, and `burst` at once. Both from 1 to a million; what lies beyond is taken as that.
    #[must_use]
    pub const fn per_second(count: u32, burst: u32) -> Self {
        Self { count: bounded(count), per: Per::Second, burst: bounded(burst) }
    }

    /// Reads `100/s`, `600/m`, `5/h`, each also with `burst 50` behind it. Without a burst it is the count. Errors: one clause that says how to write it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse::<u32>().ok()).flatten().filter(|n| (1..=RATE_MAX).contains(n))
        };
        let read = || {
            let mut words = text.split_ascii_whitespace();
            let (count, per) = words.next()?.split_once('/')?;
            let per = match per {
                "s" => Per::Second,
                "m" => Per::Minute,
                "h" => Per::Hour,
                _ => return None,
            };
            let count = number(count)?;
            let burst = match (words.next(), words.next(), words.next()) {
                (None, ..) => count,
                (Some("burst"), Some(burst), None) => number(burst)?,
                _ => return None,
            };
            Some(Self { count: bounded(count), per, burst: bounded(burst) })
        };
        read().ok_or_else(|| {
            format!("'{text}' is not a rate; write for example '100/s', '600/m' or '100/s burst 500', up to {RATE_MAX}")
        })
    }

    /// Nanoseconds between two, rounded up: rather a little less than a little more.
    fn interval(self) -> u64 {
        let per: u64 = match self.per {
            Per::Second => 1_000_000_000,
            Per::Minute => 60 * 1_000_000_000,
            Per::Hour => 3_600 * 1_000_000_000,
        };
        per.div_ceil(u64::from(self.count.get()))
    }

    fn span(self) -> u64 {
        self.interval() * u64::from(self.burst.get())
    }
}

const fn bounded(count: u32) -> NonZeroU32 {
    match NonZeroU32::new(if count > RATE_MAX { RATE_MAX } else { count }) {
        Some(count) => count,
        None => NonZeroU32::MIN,
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = match self.per {
            Per::Second => 's',
            Per::Minute => 'm',
            Per::Hour => 'h',
        };
        write!(f, "{}/{per} burst {}", self.count, self.burst)
    }
}

/// Takes one from a bucket, which is full at first. `now` is in nanoseconds on a clock that does not go back.
///
/// Errors: nothing was taken; how long until there is one.
pub(crate) fn take(bucket: &AtomicU64, rate: Rate, now: u64) -> Result<(), Duration> {
    let (interval, span) = (rate.interval(), rate.span());
    let mut full_at = bucket.load(Relaxed);
    loop {
        let next = full_at.max(now) + interval;
        let ahead = next - now;
        if ahead > span {
            return Err(Duration::from_nanos(ahead - span));
        }
        match bucket.compare_exchange_weak(full_at, next, Relaxed, Relaxed) {
            Ok(_) => return Ok(()),
            Err(other) => full_at = other,
        }
    }
}

/// Whether nothing is lost by forgetting it.
pub(crate) fn is_full(bucket: &AtomicU64, now: u64) -> bool {
    bucket.load(Relaxed) <= now
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rate_is_written_as_it_is_read() {
        for (text, shown) in
            [("100/s", "100/s burst 100"), ("5/m burst 2", "5/m burst 2"), (" 1/h  burst 9 ", "1/h burst 9")]
        {
            assert_eq!(Rate::parse(text).unwrap().to_string(), shown);
        }
        for bad in
            ["", "100", "0/s", "1/d", "-1/s", "+1/s", "1/s burst", "1/s burst 0", "1/s 5", "1/s burst 1 x", "9999999/s"]
        {
            assert!(Rate::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_burst_goes_at_once_and_then_it_drips() {
        let (bucket, rate) = (AtomicU64::new(0), Rate::per_second(10, 3));
        let second = 1_000_000_000;
        assert_eq!((0..10).filter(|_| take(&bucket, rate, second).is_ok()).count(), 3);
        assert_eq!(take(&bucket, rate, second), Err(Duration::from_millis(100)));
        assert!(!is_full(&bucket, second));
        assert_eq!(take(&bucket, rate, second + second / 10), Ok(()));
        assert!(is_full(&bucket, 2 * second));
    }

    proptest! {
        /// Who waits as long as it is told is let in.
        #[test]
        fn the_wait_that_is_told_is_enough(count in 1..RATE_MAX, burst in 1..1000_u32, steps in prop::collection::vec(0..50_000_000_u64, 1..200)) {
            let (bucket, rate) = (AtomicU64::new(0), Rate::per_second(count, burst));
            let mut now = 0;
            for step in steps {
                now += step;
                if let Err(wait) = take(&bucket, rate, now) {
                    now += u64::try_from(wait.as_nanos()).unwrap();
                    prop_assert_eq!(take(&bucket, rate, now), Ok(()));
                }
            }
        }

        /// In every window there are at most the burst and what the rate gives in that time.
        #[test]
        fn no_window_has_more_than_the_burst_and_the_rate(count in 1..2_000_u32, burst in 1..50_u32, steps in prop::collection::vec(0..20_000_000_u64, 1..300)) {
            let (bucket, rate) = (AtomicU64::new(0), Rate::per_second(count, burst));
            let (mut now, mut taken) = (0, Vec::new());
            for step in steps {
                now += step;
                if take(&bucket, rate, now).is_ok() {
                    taken.push(now);
                }
            }
            for (first, from) in taken.iter().enumerate() {
                for (last, to) in taken.iter().enumerate().skip(first) {
                    let allowed = u64::from(burst) + (to - from) * u64::from(count) / 1_000_000_000;
                    prop_assert!((last - first + 1) as u64 <= allowed, "{} in {} ns", last - first + 1, to - from);
                }
            }
        }
    }
}
