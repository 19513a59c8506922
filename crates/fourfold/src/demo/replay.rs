//! Four years of one city's weather, replayed at twenty days a second, round and round. `seattle.md` says whose data it is.

use std::time::Duration;

use serde_json::json;

/// The stream.
pub(super) const STREAM: &str = "demo/seattle";

/// Twenty records a second: faster than an eye reads, slower than a screen draws.
pub(super) const EVERY: Duration = Duration::from_millis(50);

const TEXT: &str = include_str!("seattle.csv");

/// One day of the series.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Day {
    date: &'static str,
    rain_mm: f64,
    high: f64,
    low: f64,
    wind: f64,
}

/// The series.
#[derive(Debug)]
pub(super) struct Replay {
    days: Vec<Day>,
}

impl Replay {
    pub(super) fn new() -> Self {
        Self { days: TEXT.lines().filter_map(day).collect() }
    }

    /// The record of that number, from 1.
    pub(super) fn record(&self, n: u64, at: u64) -> String {
        let index = usize::try_from(n.saturating_sub(1) % self.days.len() as u64).expect("less than a length");
        let Day { date, rain_mm, high, low, wind } = self.days[index];
        json!({"n": n, "at": at, "day": date, "high": high, "low": low, "rain": rain_mm, "wind": wind}).to_string()
    }
}

fn day(line: &'static str) -> Option<Day> {
    let mut fields = line.split(',');
    let date = fields.next()?;
    let mut number = || fields.next()?.trim().parse().ok();
    Some(Day { date, rain_mm: number()?, high: number()?, low: number()?, wind: number()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_day_and_the_last_is_followed_by_the_first() {
        let replay = Replay::new();
        assert_eq!((replay.days.len(), TEXT.lines().count()), (1461, 1461));
        assert!(replay.record(1, 0).contains("2012-01-01"));
        assert!(replay.record(1461, 0).contains("2015-12-31"));
        assert!(replay.record(1462, 0).contains("2012-01-01"));
    }
}
