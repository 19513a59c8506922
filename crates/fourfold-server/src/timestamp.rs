//! RFC 3339 timestamps, as milliseconds since the Unix epoch.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Reads a timestamp; `None` if it is not one, or lies before 1970.
pub(crate) fn parse(text: &str) -> Option<u64> {
    // The parser takes anything between date and time.
    text.as_bytes().get(10).filter(|b| b.eq_ignore_ascii_case(&b'T'))?;
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}

/// Writes one in UTC.
pub(crate) fn format(ms: u64) -> String {
    let nanos = i128::from(ms) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_reads_back_and_others_do_not() {
        let ms = parse("2026-11-22T15:00:00.250+01:00").unwrap();
        assert_eq!(format(ms), "2026-11-22T14:00:00.25Z");
        assert_eq!(parse(&format(ms)), Some(ms));
        for bad in ["", "tomorrow", "2026-11-22", "2026-13-01T00:00:00Z", "1969-12-31T00:00:00Z"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
