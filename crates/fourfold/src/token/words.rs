//! Moments in words.

use std::{
    cmp::Ordering,
    time::{SystemTime, UNIX_EPOCH},
};

use time::OffsetDateTime;

/// In seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `2026-11-28 03:00:00 UTC, in 58 min`.
pub(super) fn moment(at: u64, now: u64) -> String {
    let calendar = i64::try_from(at).ok().and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
    let Some(c) = calendar else { return format!("{at} s after 1970, which no calendar has") };
    let (date, clock) = (c.date(), c.time());
    let (hour, minute, second) = clock.as_hms();
    let apart = match at.cmp(&now) {
        Ordering::Less => format!("{} ago", length(now - at)),
        Ordering::Equal => "now".into(),
        Ordering::Greater => format!("in {}", length(at - now)),
    };
    format!("{date} {hour:02}:{minute:02}:{second:02} UTC, {apart}")
}

/// In the largest unit of which there are two or more.
fn length(seconds: u64) -> String {
    [(86_400, "days"), (3_600, "h"), (60, "min")]
        .into_iter()
        .find(|(unit, _)| seconds >= 2 * unit)
        .map_or_else(|| format!("{seconds} s"), |(unit, name)| format!("{} {name}", seconds / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_as_people_tell_it() {
        let noon = 1_764_331_200;
        assert_eq!(moment(noon, noon - 3_480), "2025-11-28 12:00:00 UTC, in 58 min");
        assert_eq!(moment(noon, noon + 5), "2025-11-28 12:00:00 UTC, 5 s ago");
        assert_eq!(moment(noon, noon + 100_000), "2025-11-28 12:00:00 UTC, 27 h ago");
        assert!(moment(u64::MAX, noon).contains("no calendar"));
    }
}
