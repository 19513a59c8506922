//! Patterns over stream names: `*` is one segment, `**` zero or more. Spec: "Create or Re-confirm a Subscription".
//!
//! A star among other letters of a segment stands for any of them but the slash (`orders-*`); the text is silent there.
//! The server's own streams match nothing.

use std::{error, fmt};

use crate::name::RESERVED_SEGMENT;

/// The longest pattern, in bytes: as long as a stream name.
pub const PATTERN_BYTES_MAX: usize = 1_024;

/// `**` in a pattern. Each multiplies the work of matching by the segments of a name.
pub const PATTERN_DOUBLE_STARS_MAX: usize = 2;

/// A checked pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: String,
}

/// What is wrong with a text that is no pattern, as a clause that goes on after "the pattern".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPattern(String);

impl Pattern {
    /// Errors: what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let invalid = |why: &str| Err(BadPattern(why.to_owned()));
        if text.is_empty() || text.len() > PATTERN_BYTES_MAX {
            return invalid(&format!("has from 1 to {PATTERN_BYTES_MAX} bytes"));
        }
        if text.chars().any(|c| c.is_control() || c == '\\') {
            return invalid("has a control character or a backslash");
        }
        if text.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return invalid("has a segment that is empty, '.' or '..', which no stream name has");
        }
        if text.split('/').any(|segment| segment != "**" && segment.contains("**")) {
            return invalid("has '**' beside other characters: it is a whole segment");
        }
        if text.split('/').filter(|segment| *segment == "**").count() > PATTERN_DOUBLE_STARS_MAX {
            return invalid(&format!("has '**' more than {PATTERN_DOUBLE_STARS_MAX} times"));
        }
        if text.split('/').next() == Some(RESERVED_SEGMENT) {
            return invalid("begins with '__ds', below which there are no streams");
        }
        Ok(Self { text: text.to_owned() })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it stands for this name. At most the product of the lengths of both, without recursion.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        if name.split('/').next() == Some(RESERVED_SEGMENT) {
            return false;
        }
        segments(&self.text, name)
    }

    /// What every name that matches begins with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        let star = self.text.find('*').unwrap_or(self.text.len());
        let prefix = &self.text[..star];
        // `a/**` also matches `a`.
        if self.text[star..].starts_with("**") { prefix.strip_suffix('/').unwrap_or(prefix) } else { prefix }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the pattern {}", self.0)
    }
}

impl error::Error for BadPattern {}

/// The last `**` takes more as long as what follows does not fit: no recursion, at most the product of the numbers of segments. Walks both texts where
/// they are, since every request with rules comes by here.
fn segments(pattern: &str, name: &str) -> bool {
    // What is left of each, from the beginning of a segment; `None` behind the last one.
    let (mut p, mut n) = (Some(pattern), Some(name));
    let mut stars = None;
    while let Some(rest) = n {
        let (text, after) = first(rest);
        match p.map(first) {
            Some(("**", next)) => {
                stars = Some((next, rest));
                p = next;
            }
            Some((one, next)) if segment(one, text) => (p, n) = (next, after),
            _ => {
                let Some((next, taken)) = stars else { return false };
                (p, n) = (next, first(taken).1);
                if let Some(taken) = n {
                    stars = Some((next, taken));
                }
            }
        }
    }
    while let Some(rest) = p {
        let (one, next) = first(rest);
        if one != "**" {
            return false;
        }
        p = next;
    }
    true
}

/// The first segment, and what follows it.
fn first(text: &str) -> (&str, Option<&str>) {
    text.split_once('/').map_or((text, None), |(segment, rest)| (segment, Some(rest)))
}

/// The last star takes more as long as what follows does not fit: no recursion, at most the product of the lengths.
fn segment(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            p = at + 1;
            t = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_nearly_fits_everywhere_is_judged_at_once() {
        let pattern = Pattern::parse(&format!("**/**/{}b", "a/".repeat(170))).unwrap();
        let name = "a/".repeat(511) + "a";
        for _ in 0..200 {
            assert!(!pattern.matches(&name));
        }
        assert!(pattern.matches(&format!("{}b", "a/".repeat(300))));
    }

    #[test]
    fn a_star_is_a_segment_and_two_are_any_number() {
        for (pattern, yes, no) in [
            ("events/*", vec!["events/a", "events/é b"], vec!["events", "events/a/b", "xevents/a", "event/a"]),
            ("**", vec!["a", "a/b/c"], vec!["__ds/keys", "__ds"]),
            ("a/**", vec!["a", "a/b", "a/b/c"], vec!["b", "ab"]),
            ("**/z", vec!["z", "a/z", "a/b/z"], vec!["z/a", "az"]),
            ("a/**/z", vec!["a/z", "a/b/z", "a/b/c/z"], vec!["a", "z", "a/b"]),
            ("*/*", vec!["a/b"], vec!["a", "a/b/c", "__ds/keys"]),
            ("a-*-z/x", vec!["a--z/x", "a-b-z-z/x"], vec!["a-z/x", "a-b-z/y"]),
            ("a/b", vec!["a/b"], vec!["a/bc", "a"]),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            for name in yes {
                assert!(parsed.matches(name), "{pattern} {name}");
                assert!(name.starts_with(parsed.prefix()), "{pattern} {name}");
            }
            for name in no {
                assert!(!parsed.matches(name), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn what_can_match_nothing_or_costs_too_much_is_refused() {
        let long = "a".repeat(PATTERN_BYTES_MAX + 1);
        for bad in ["", "a//b", "/a", "a/", "../a", "a**", "**/a/**/b/**", "__ds/*", "a\\b", "a\n", &long] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
        let stars = format!("{}b", "*a".repeat(300));
        assert!(!Pattern::parse(&stars).unwrap().matches(&"a".repeat(1_000)));
    }
}
