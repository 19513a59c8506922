//! Durations and sizes as the configuration writes them: `20s`, `500ms`, `16MiB`. Always with a unit, so that nobody has to guess; a bare number
//! is bytes.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

/// A duration, from a string such as `500ms`, `20s`, `5m`, `24h` or `7d`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span(pub(super) Duration);

/// A number of bytes, from a string such as `512KiB` or a bare number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Size(pub(super) u64);

const DURATION_UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60 * 1_000), ("h", 60 * 60 * 1_000), ("d", 24 * 60 * 60 * 1_000)];

const SIZE_UNITS: &[(&str, u64)] = &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("B", 1)];

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        scaled(&text, DURATION_UNITS).map(|ms| Self(Duration::from_millis(ms))).ok_or_else(|| {
            D::Error::custom(format!(
                "'{text}' is not a duration; write a whole number and a unit, such as 500ms, 20s, 5m, 24h or 7d"
            ))
        })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Typed {
            Bytes(u64),
            Text(String),
        }
        let text = match Typed::deserialize(deserializer) {
            Ok(Typed::Bytes(bytes)) => return Ok(Self(bytes)),
            Ok(Typed::Text(text)) => text,
            Err(_) => return Err(D::Error::custom("a size is a string such as '1MiB', or a number of bytes")),
        };
        scaled(&text, SIZE_UNITS).or_else(|| number(&text)).map(Self).ok_or_else(|| {
            D::Error::custom(format!(
                "'{text}' is not a size; write a whole number and a unit, such as 512KiB, 16MiB or 1GiB"
            ))
        })
    }
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number(count)?.checked_mul(*scale)
}

/// Digits only: `parse` alone would also take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str) -> Option<Duration> {
        serde_json::from_value::<Span>(text.into()).ok().map(|span| span.0)
    }

    fn size(text: &str) -> Option<u64> {
        serde_json::from_value::<Size>(text.into()).ok().map(|size| size.0)
    }

    #[test]
    fn durations_and_sizes_carry_their_unit() {
        assert_eq!(span("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(span("7d"), Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(size("16MiB"), Some(16 << 20));
        assert_eq!(size("4096"), Some(4096));
        assert_eq!(serde_json::from_str::<Size>("4096").unwrap(), Size(4096));
    }

    #[test]
    fn what_could_be_misread_is_refused() {
        for bad in ["", "20", "s", "-1s", "+1s", "1.5s", "20 s", "20S", "20sec", "99999999999999999d"] {
            assert_eq!(span(bad), None, "{bad}");
        }
        for bad in ["", "MiB", "16MB", "16 MiB", "-1", "1e6", "99999999999TiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
        assert!(serde_json::from_str::<Span>("20").is_err());
        assert!(serde_json::from_str::<Size>("-1").is_err());
    }
}
