//! JSON values, one after the other: JSON lines, JSON sequences, a single value. Each is a record with the byte that completes it; a number, which has
//! no end of its own, with the byte after it. An array at the top stays one record.

use bytes::Bytes;
use fourfold_protocol::record::push_on_one_line;
use memchr::memchr2;
use serde_json::value::RawValue;

use super::{Malformed, malformed, too_large};

/// Cuts an output into its JSON values.
#[derive(Debug)]
pub(crate) struct Values {
    /// RFC 7464: a record separator stands before each value.
    in_sequence: bool,
    bytes_max: usize,
    state: State,
    /// The value that is not whole yet, as far as it came with earlier pushes.
    held: Vec<u8>,
    /// Where that value begins in the output.
    begun_at: u64,
    /// Bytes of the output before the present push.
    seen: u64,
    /// Bytes of a byte order mark at the very beginning.
    mark: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Between,
    /// In a number or a word.
    Scalar,
    /// In a string at the top (depth 0), or in an array or object.
    Nested {
        depth: u32,
        in_string: bool,
        escaped: bool,
    },
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const RECORD_SEPARATOR: u8 = 0x1e;
const HELD_KEPT: usize = 16 * 1024; // A buffer that once held a large value is not kept for the small ones after it.

impl Values {
    pub(super) fn new(in_sequence: bool, bytes_max: usize) -> Self {
        Self { in_sequence, bytes_max, state: State::Between, held: Vec::new(), begun_at: 0, seen: 0, mark: 0 }
    }

    pub(super) fn push(&mut self, bytes: &Bytes, records: &mut Vec<Bytes>) -> Result<(), Malformed> {
        let mut start = 0; // Of the present value in `bytes`.
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            match self.state {
                State::Between => {
                    start = at;
                    self.begin(byte, at)?;
                    at += 1;
                }
                State::Scalar => {
                    let ends = self.is_space(byte) || matches!(byte, b'{' | b'[' | b'"');
                    if ends {
                        self.complete(bytes, start..at, records)?; // The byte itself is looked at again.
                    } else {
                        at += 1;
                    }
                }
                State::Nested { depth, in_string: true, escaped } => {
                    if escaped {
                        self.state = State::Nested { depth, in_string: true, escaped: false };
                        at += 1;
                    } else {
                        at += memchr2(b'"', b'\\', &bytes[at..]).unwrap_or(bytes.len() - at);
                        match bytes.get(at) {
                            Some(b'"') if depth == 0 => self.complete(bytes, start..at + 1, records)?,
                            Some(b'"') => self.state = State::Nested { depth, in_string: false, escaped: false },
                            Some(_) => self.state = State::Nested { depth, in_string: true, escaped: true },
                            None => {}
                        }
                        at += 1;
                    }
                }
                State::Nested { depth, .. } => {
                    match byte {
                        b'"' => self.state = State::Nested { depth, in_string: true, escaped: false },
                        b'{' | b'[' => {
                            self.state = State::Nested { depth: depth + 1, in_string: false, escaped: false }
                        }
                        b'}' | b']' if depth == 1 => self.complete(bytes, start..at + 1, records)?,
                        b'}' | b']' => {
                            self.state = State::Nested { depth: depth - 1, in_string: false, escaped: false }
                        }
                        _ => {}
                    }
                    at += 1;
                }
            }
            // Before the push has been read to its end: a value that is too large is told at the same byte, however the output was cut.
            if self.state != State::Between && self.held.len() + at.min(bytes.len()) - start > self.bytes_max {
                return Err(too_large("JSON value", self.begun_at, self.bytes_max));
            }
        }
        if self.state != State::Between {
            self.held.extend_from_slice(&bytes[start..]);
        }
        self.seen += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn finish(&mut self, records: &mut Vec<Bytes>) -> Result<(), Malformed> {
        match self.state {
            State::Scalar => self.complete(&Bytes::new(), 0..0, records),
            State::Nested { .. } => {
                Err(malformed(format!("the output ends within the JSON value that begins at byte {}", self.begun_at)))
            }
            State::Between if (1..BYTE_ORDER_MARK.len()).contains(&self.mark) => Err(self.no_json(0)),
            State::Between => Ok(()),
        }
    }

    fn begin(&mut self, byte: u8, at: usize) -> Result<(), Malformed> {
        let place = self.seen + at as u64;
        if self.mark < BYTE_ORDER_MARK.len() && place == self.mark as u64 && byte == BYTE_ORDER_MARK[self.mark] {
            self.mark += 1;
            return Ok(());
        }
        if (1..BYTE_ORDER_MARK.len()).contains(&self.mark) {
            return Err(self.no_json(0));
        }
        if self.is_space(byte) {
            return Ok(());
        }
        self.begun_at = place;
        self.state = match byte {
            b'{' | b'[' => State::Nested { depth: 1, in_string: false, escaped: false },
            b'"' => State::Nested { depth: 0, in_string: true, escaped: false },
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => State::Scalar,
            _ => return Err(self.no_json(place)),
        };
        Ok(())
    }

    fn is_space(&self, byte: u8) -> bool {
        matches!(byte, b' ' | b'\t' | b'\n' | b'\r') || (self.in_sequence && byte == RECORD_SEPARATOR)
    }

    /// The present value ends with `part` of the push.
    fn complete(
        &mut self,
        bytes: &Bytes,
        part: std::ops::Range<usize>,
        records: &mut Vec<Bytes>,
    ) -> Result<(), Malformed> {
        self.state = State::Between;
        if self.held.len() + part.len() > self.bytes_max {
            return Err(too_large("JSON value", self.begun_at, self.bytes_max));
        }
        let value = if self.held.is_empty() {
            bytes.slice(part)
        } else {
            self.held.extend_from_slice(&bytes[part]);
            let value = Bytes::copy_from_slice(&self.held);
            self.held.clear();
            self.held.shrink_to(HELD_KEPT);
            value
        };
        let text = std::str::from_utf8(&value).map_err(|e| {
            let place = self.begun_at + e.valid_up_to() as u64;
            malformed(format!("the JSON value that begins at byte {} is not UTF-8 from byte {place} on", self.begun_at))
        })?;
        serde_json::from_str::<&RawValue>(text).map_err(|e| {
            let (line, column) = (e.line(), e.column());
            malformed(format!(
                "the JSON value that begins at byte {} is broken at its line {line} column {column}",
                self.begun_at
            ))
        })?;
        records.push(on_one_line(value));
        Ok(())
    }

    fn no_json(&self, place: u64) -> Malformed {
        malformed(format!("no JSON value begins at byte {place}"))
    }
}

/// A record of a JSON stream has no line breaks. Most have none to begin with, and are not copied.
fn on_one_line(json: Bytes) -> Bytes {
    if memchr2(b'\n', b'\r', &json).is_none() {
        return json;
    }
    let mut line = Vec::with_capacity(json.len());
    push_on_one_line(&mut line, &json);
    line.into()
}

#[cfg(test)]
mod tests {
    use super::super::{Splitter, proof::*};
    use super::*;
    use proptest::prelude::*;

    fn json() -> Splitter {
        Splitter::Json(Values::new(false, 1 << 20))
    }

    #[test]
    fn every_value_is_a_record() {
        let lines = all(json(), &[b"{\"a\":1}\n\n[1,2]\r\n\"x\"\ntrue\n-1.5e3\nnull"]);
        assert_eq!(texts(&lines), ["{\"a\":1}", "[1,2]", "\"x\"", "true", "-1.5e3", "null"]);
        assert_eq!(lines.1, Ok(()));
        let dense = all(json(), &[b"\xef\xbb\xbf{\"a\":\"}\\\"{\"}[]\"a\"\"b\\\\\"1{} 2"]);
        assert_eq!(texts(&dense), ["{\"a\":\"}\\\"{\"}", "[]", "\"a\"", "\"b\\\\\"", "1", "{}", "2"]);
        let sequence = all(Splitter::Json(Values::new(true, 99)), &[b"\x1e{\"a\":1}\n\x1e2\n"]);
        assert_eq!(texts(&sequence), ["{\"a\":1}", "2"]);
        assert_eq!(all(json(), &[b" \n"]), (Vec::new(), Ok(())), "nothing is no record");
    }

    #[test]
    fn a_value_over_several_lines_becomes_one_line() {
        let pretty = all(json(), &[b"{\n  \"a b\": [\r\n 1,\n\"\\\" c\" ]\n}\n{ \"as\": \"it is\" }"]);
        assert_eq!(texts(&pretty), ["{\"a b\":[1,\"\\\" c\"]}", "{ \"as\": \"it is\" }"]);
    }

    #[test]
    fn what_is_no_json_is_told_with_its_place() {
        for (bytes, records, why) in [
            (&b"{\"a\":1}\n<html>"[..], 1, "no JSON value begins at byte 8"),
            (b"1\n{\"a\":}\n", 1, "the JSON value that begins at byte 2 is broken at its line 1 column 6"),
            (b"1 2 tru", 2, "the JSON value that begins at byte 4 is broken at its line 1 column 3"),
            (b"[1\n2]", 0, "begins at byte 0 is broken at its line 2 column 1"),
            (b"1,2", 0, "begins at byte 0 is broken"),
            (b"[1,2", 0, "the output ends within the JSON value that begins at byte 0"),
            (b"\"abc", 0, "the output ends within the JSON value that begins at byte 0"),
            (b"{]", 0, "begins at byte 0 is broken"),
            (b"[\"a\xff\"]", 0, "begins at byte 0 is not UTF-8 from byte 3 on"),
            (b"}", 0, "no JSON value begins at byte 0"),
            (b"\xef\xbb{}", 0, "no JSON value begins at byte 0"),
        ] {
            let outcome = all(json(), &[bytes]);
            let broken = outcome.1.as_ref().expect_err(why);
            assert_eq!(broken.code, "malformed");
            assert!(broken.text.contains(why), "{broken} / {why}");
            assert_eq!(outcome.0.len(), records, "what came before is kept: {why}");
        }
    }

    #[test]
    fn a_value_that_never_ends_is_not_held_without_bound() {
        let mut values = Values::new(false, 1_000);
        let mut records = Vec::new();
        let chunk = Bytes::from(vec![b'['; 300]);
        let pushed = (0..10).take_while(|_| values.push(&chunk, &mut records).is_ok()).count();
        assert_eq!(pushed, 3);
        assert!(values.held.capacity() <= 2_048);
        let exact = format!("\"{}\"", "a".repeat(998));
        assert_eq!(all(Splitter::Json(Values::new(false, 1_000)), &[exact.as_bytes()]).1, Ok(()));
        let beyond = all(Splitter::Json(Values::new(false, 999)), &[exact.as_bytes()]);
        assert_eq!(beyond.1.unwrap_err().code, "too-large");
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "[a\"\\\\{}\\[\\] \nü😀]{0,6}".prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map("[a\"}]{0,3}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_value_comes_with_the_byte_that_completes_it(values in prop::collection::vec(value(), 0..8), pretty: bool) {
            let mut splitter = json();
            for value in &values {
                let mut text = if pretty { serde_json::to_vec_pretty(value) } else { serde_json::to_vec(value) }.unwrap();
                if !matches!(text[0], b'{' | b'[' | b'"') {
                    text.push(b'\n');
                }
                let (last, before) = text.split_last().unwrap();
                let mut records = Vec::new();
                splitter.push(Bytes::copy_from_slice(before), &mut records).unwrap();
                prop_assert!(records.is_empty());
                splitter.push(Bytes::copy_from_slice(&[*last]), &mut records).unwrap();
                prop_assert_eq!(records.len(), 1);
                prop_assert_eq!(&serde_json::from_slice::<serde_json::Value>(&records[0]).unwrap(), value);
                prop_assert!(!records[0].contains(&b'\n'));
            }
        }
    }
}
