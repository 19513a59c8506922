//! What the load generator appends, and how it finds it again without understanding what lies around it.
//!
//! ```text
//! {"b":"17,81234567;xxxxxxxx…x"}       sequence, intended time in µs of the monotonic clock
//! {"b":"17,81234567,3;xxxxxx…x"}       the same of a stream's fourth writer
//! ```
//!
//! Any framing may lie around it and any read may cut it: [`Marks`] is fed the payload in pieces.

use std::io::Write;

use memchr::memmem::Finder;

/// Where the numbers begin.
const MARK: &[u8] = br#""b":""#;

/// The same inside a JSON string, which is how Socket.IO passes a text on.
const MARK_ESCAPED: &[u8] = br#"b\":\""#;

/// The longest mark with its numbers, in bytes: three numbers of 20 digits do not fit, but no clock and no run reaches them.
const MARK_BYTES_MAX: usize = 64;

/// The smallest record, in bytes: below it the numbers do not fit.
pub(crate) const RECORD_BYTES_MIN: u32 = 48;

/// The largest, in bytes: half of what a default server takes in one body.
pub(crate) const RECORD_BYTES_MAX: u32 = 8 << 20;

/// A record that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// From 0, for each writer of a stream.
    pub(crate) sequence: u64,
    /// When the schedule wanted it to be sent.
    pub(crate) intended_us: u64,
    /// Which writer of the stream.
    pub(crate) writer: u32,
}

/// Writes the record to `out`, `bytes` long.
pub(crate) fn write(mark: &Mark, bytes: usize, out: &mut Vec<u8>) {
    let start = out.len();
    let Mark { sequence, intended_us, writer } = mark;
    let written = match writer {
        0 => write!(out, r#"{{"b":"{sequence},{intended_us};"#),
        _ => write!(out, r#"{{"b":"{sequence},{intended_us},{writer};"#),
    };
    written.expect("writing to memory does not fail");
    out.resize(out.len().max(start + bytes - 2), b'x');
    out.extend_from_slice(b"\"}");
}

/// What records look like to those who look for them.
#[derive(Debug)]
pub(crate) struct Shape {
    finder: Finder<'static>,
    /// `None`: only marks are looked for.
    record_bytes: Option<usize>,
}

impl Shape {
    /// Records of so many bytes.
    pub(crate) fn new(record_bytes: usize, escaped: bool) -> Self {
        Self { finder: Finder::new(if escaped { MARK_ESCAPED } else { MARK }), record_bytes: Some(record_bytes) }
    }

    /// Marks, whatever lies behind them.
    pub(crate) fn bare() -> Self {
        Self { finder: Finder::new(MARK), record_bytes: None }
    }

    /// What stands between the numbers and the end of a record whose numbers take `digits` bytes with their `;`.
    fn filler(&self, digits: usize) -> usize {
        self.record_bytes.map_or(0, |bytes| bytes.saturating_sub(digits + br#"{"b":""}"#.len()))
    }

    fn next(&self, bytes: &[u8]) -> Search {
        let mut from = 0;
        while let Some(at) = self.finder.find(&bytes[from..]) {
            let numbers = from + at + self.finder.needle().len();
            match numbered(&bytes[numbers..]) {
                Numbers::Whole(mark, digits) => return Search::Found { mark, digits, end: numbers + digits },
                Numbers::Cut if bytes.len() - (from + at) < MARK_BYTES_MAX => return Search::Cut { from: from + at },
                Numbers::Cut | Numbers::None => from = numbers,
            }
        }
        let needle = self.finder.needle();
        let longest = needle.len().min(bytes.len() - from + 1);
        match (1..longest).rev().find(|length| bytes.ends_with(&needle[..*length])) {
            Some(length) => Search::Cut { from: bytes.len() - length },
            None => Search::Nothing,
        }
    }
}

enum Search {
    Found {
        mark: Mark,
        digits: usize,
        end: usize,
    },
    /// What may become a mark begins there.
    Cut {
        from: usize,
    },
    Nothing,
}

enum Numbers {
    Whole(Mark, usize),
    Cut,
    None,
}

fn numbered(bytes: &[u8]) -> Numbers {
    let (mut values, mut which) = ([0_u64; 3], 0);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'0'..=b'9' => values[which] = values[which].wrapping_mul(10).wrapping_add(u64::from(byte - b'0')),
            b',' if which < 2 => which += 1,
            b';' if which > 0 => {
                let [sequence, intended_us, writer] = values;
                let writer = u32::try_from(writer).unwrap_or(u32::MAX);
                return Numbers::Whole(Mark { sequence, intended_us, writer }, at + 1);
            }
            _ => return Numbers::None,
        }
    }
    Numbers::Cut
}

/// Finds the records in one connection's payload. Keeps no bytes but those of a mark that was cut.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// A record whose numbers are known, and how much of it is still to come.
    pending: Option<(Mark, usize)>,
    cut: Vec<u8>,
}

impl Marks {
    /// Calls `found` for each record that is whole with these bytes.
    pub(crate) fn feed(&mut self, shape: &Shape, mut bytes: &[u8], mut found: impl FnMut(Mark)) {
        if !self.cut.is_empty() {
            let held = self.cut.len();
            let mut joined = std::mem::take(&mut self.cut);
            let more = bytes.len().min(MARK_BYTES_MAX);
            joined.extend_from_slice(&bytes[..more]);
            match shape.next(&joined) {
                Search::Found { mark, digits, end } => {
                    self.pending = Some((mark, shape.filler(digits)));
                    bytes = &bytes[end.saturating_sub(held)..];
                }
                Search::Cut { from } if more == bytes.len() => {
                    joined.drain(..from);
                    self.cut = joined;
                    return;
                }
                // No mark begins in what was held; what begins behind it is found below.
                Search::Cut { .. } | Search::Nothing => {}
            }
        }
        loop {
            if let Some((mark, left)) = self.pending {
                if bytes.len() < left {
                    self.pending = Some((mark, left - bytes.len()));
                    return;
                }
                self.pending = None;
                bytes = &bytes[left..];
                found(mark);
            }
            match shape.next(bytes) {
                Search::Found { mark, digits, end } => {
                    self.pending = Some((mark, shape.filler(digits)));
                    bytes = &bytes[end..];
                }
                Search::Cut { from } => {
                    self.cut = bytes[from..].to_vec();
                    return;
                }
                Search::Nothing => return,
            }
        }
    }

    /// To be called where a message ends: whether no record was cut by that.
    pub(crate) fn end(&mut self) -> bool {
        let was_in_numbers = self.cut.len() >= MARK.len();
        self.cut = Vec::new();
        self.pending.take().is_none() && !was_in_numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fed(shape: &Shape, pieces: impl Iterator<Item = Vec<u8>>) -> (Vec<Mark>, bool) {
        let (mut marks, mut found) = (Marks::default(), Vec::new());
        for piece in pieces {
            marks.feed(shape, &piece, |mark| found.push(mark));
        }
        (found, marks.end())
    }

    fn message(sent: &[Mark], bytes: usize) -> Vec<u8> {
        let mut out = br#"{"records":["#.to_vec();
        for mark in sent {
            write(mark, bytes, &mut out);
            out.push(b',');
        }
        out.extend_from_slice(br#"],"streamNextOffset":"0_0","b":5,"b":"x"}"#);
        out
    }

    #[test]
    fn a_record_has_the_size_that_was_asked_for() {
        for writer in [0, 7] {
            for bytes in [RECORD_BYTES_MIN as usize, 128, 70_000] {
                let mut out = Vec::new();
                write(&Mark { sequence: u64::from(u32::MAX), intended_us: 9_999_999_999_999, writer }, bytes, &mut out);
                assert_eq!(out.len(), bytes);
            }
        }
    }

    #[test]
    fn a_record_that_is_cut_by_the_end_of_its_message_is_noticed() {
        let mark = Mark { sequence: 3, intended_us: 5, writer: 0 };
        let mut whole = Vec::new();
        write(&mark, 64, &mut whole);
        let shape = Shape::new(64, false);
        assert_eq!(fed(&shape, [whole.clone()].into_iter()), (vec![mark], true));
        for cut in [9, 12, 30, 50] {
            assert_eq!(fed(&shape, [whole[..cut].to_vec()].into_iter()), (vec![], false), "{cut}");
        }
    }

    #[test]
    fn a_record_inside_a_json_string_is_found() {
        let mark = Mark { sequence: 3, intended_us: 5, writer: 1 };
        let mut whole = Vec::new();
        write(&mark, 64, &mut whole);
        let text = serde_json::to_vec(&("b", std::str::from_utf8(&whole).unwrap())).unwrap();
        assert_eq!(fed(&Shape::new(64, true), [text].into_iter()), (vec![mark], true));
    }

    proptest! {
        #[test]
        fn every_record_is_found_however_it_is_cut(
            numbers in prop::collection::vec((0..1_000_000_u64, 0..10_000_000_000_u64, 0..3_u32), 0..6),
            bytes in RECORD_BYTES_MIN as usize..200,
            piece in 1..90_usize,
        ) {
            let sent: Vec<_> = numbers.iter().map(|&(sequence, intended_us, writer)| Mark { sequence, intended_us, writer }).collect();
            let text = message(&sent, bytes);
            let (found, is_whole) = fed(&Shape::new(bytes, false), text.chunks(piece).map(<[u8]>::to_vec));
            prop_assert_eq!(found, sent);
            prop_assert!(is_whole);
        }
    }
}
