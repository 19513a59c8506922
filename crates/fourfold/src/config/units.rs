//! Durations and sizes as people write them: `20s`, `500ms`, `16MiB`. Always with a unit, so that nobody has to guess.

use std::time::Duration;

const DURATION_UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60 * 1_000), ("h", 60 * 60 * 1_000), ("d", 24 * 60 * 60 * 1_000)];

const SIZE_UNITS: &[(&str, u64)] = &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("B", 1)];

/// Reads `500ms`, `20s`, `5m`, `24h` or `7d`. Errors: one clause that says how to write it.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    scaled(text, DURATION_UNITS).map(Duration::from_millis).ok_or_else(|| {
        format!("'{text}' is not a duration; write a whole number and a unit, such as 500ms, 20s, 5m, 24h or 7d")
    })
}

/// Reads `65536B`, `512KiB`, `16MiB`, `1GiB` or `2TiB`; a bare number is bytes. Errors as [`duration`].
pub(crate) fn size(text: &str) -> Result<u64, String> {
    scaled(text, SIZE_UNITS).or_else(|| number(text)).ok_or_else(|| {
        format!("'{text}' is not a size; write a whole number and a unit, such as 512KiB, 16MiB or 1GiB")
    })
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number(count)?.checked_mul(*scale)
}

/// Digits only: `parse` alone would also take a sign.
pub(crate) fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_carry_their_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(size("16MiB"), Ok(16 << 20));
        assert_eq!(size("4096"), Ok(4096));
    }

    #[test]
    fn what_could_be_misread_is_refused() {
        for bad in ["", "20", "s", "-1s", "+1s", "1.5s", "20 s", "20S", "20sec", "99999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        for bad in ["", "MiB", "16MB", "16 MiB", "-1", "1e6", "99999999999TiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
