//! Records: what one append added, and how a body becomes records.
//!
//! Spec: "JSON Mode" for the flattening of one array level.

use std::{fmt, marker::PhantomData};

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::refusal::{Code, Refusal};

/// One record and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The place before it.
    pub position: u64,
    /// The bytes as they were appended (JSON: one value without line breaks).
    pub data: Bytes,
}

/// How records of a stream are written where bytes alone will not do: what the content type means to the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `application/json`: each record is one value.
    Json,
    /// `text/*`: each record is UTF-8.
    Text,
    /// Anything else: base64 where text is wanted.
    Binary,
}

impl Kind {
    /// What a content type means; its parameters and case do not matter.
    #[must_use]
    pub fn of(content_type: &str) -> Self {
        let essence = essence(content_type);
        if essence.eq_ignore_ascii_case("application/json") {
            Self::Json
        } else if essence.get(..5).is_some_and(|t| t.eq_ignore_ascii_case("text/")) {
            Self::Text
        } else {
            Self::Binary
        }
    }
}

/// Whether an append with content type `given` may go to a stream of content type `stream`: parameters and case do not matter.
#[must_use]
pub fn same_content_type(given: &str, stream: &str) -> bool {
    essence(given).eq_ignore_ascii_case(essence(stream))
}

/// The most records of one append. A record costs some 40 bytes beside its own, so a body of two-byte records would take
/// twenty times its size.
pub const APPEND_RECORDS_MAX: usize = 100_000;

/// Whether a text is `type/subtype`, with or without parameters, and safe to send back in a header.
#[must_use]
pub fn is_content_type(text: &str) -> bool {
    let token = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b));
    text.len() <= CONTENT_TYPE_BYTES_MAX
        && text.bytes().all(|b| (b' '..=b'~').contains(&b))
        && essence(text).split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub))
}

/// The longest content type: it is kept with every stream and sent with every answer.
pub const CONTENT_TYPE_BYTES_MAX: usize = 256;

fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// The records of one body.
///
/// JSON: the value, or the elements of the outermost array (none for `[]`). Text and others: the whole body as one record, none if it is empty.
/// All records share one allocation of their own, so that keeping a record does not keep a read buffer.
///
/// Errors: [`Code::InvalidJson`], [`Code::InvalidUtf8`].
pub fn split(kind: Kind, body: &[u8]) -> Result<Vec<Bytes>, Refusal> {
    let utf8 = |body| {
        std::str::from_utf8(body).map_err(|e| {
            Refusal::new(Code::InvalidUtf8, format!("the body is not UTF-8 from byte {} on", e.valid_up_to()))
        })
    };
    match kind {
        Kind::Json => elements(utf8(body)?),
        _ if body.is_empty() => Ok(Vec::new()),
        Kind::Text => utf8(body).map(|text| vec![Bytes::copy_from_slice(text.as_bytes())]),
        Kind::Binary => Ok(vec![Bytes::copy_from_slice(body)]),
    }
}

/// Copies parts into one allocation and shares it out.
#[must_use]
pub fn gather<'a>(parts: impl Iterator<Item = &'a [u8]> + Clone) -> Vec<Bytes> {
    let mut all = Vec::with_capacity(parts.clone().map(<[u8]>::len).sum());
    let mut ends = Vec::new();
    for part in parts {
        all.extend_from_slice(part);
        ends.push(all.len());
    }
    share(Bytes::from(all), &ends)
}

fn share(all: Bytes, ends: &[usize]) -> Vec<Bytes> {
    let mut start = 0;
    ends.iter()
        .map(|&end| {
            let part = all.slice(start..end);
            start = end;
            part
        })
        .collect()
}

/// The elements of a JSON text that is an array, or the text itself.
///
/// Errors: [`Code::InvalidJson`], [`Code::BodyTooLarge`] beyond [`APPEND_RECORDS_MAX`].
pub fn elements(text: &str) -> Result<Vec<Bytes>, Refusal> {
    let invalid = |e: serde_json::Error| {
        Refusal::new(Code::InvalidJson, format!("the JSON is broken at line {} column {}", e.line(), e.column()))
    };
    let is_array = text.trim_ascii_start().starts_with('[');
    let values: Vec<&RawValue> = if is_array {
        serde_json::from_str::<Bounded<_>>(text).map_err(invalid)?.all()?
    } else {
        vec![serde_json::from_str(text).map_err(invalid)?]
    };
    let mut all = Vec::with_capacity(values.iter().map(|v| v.get().len()).sum());
    let mut ends = Vec::with_capacity(values.len());
    for value in values {
        push_on_one_line(&mut all, value.get().as_bytes());
        ends.push(all.len());
    }
    Ok(share(Bytes::from(all), &ends))
}

/// An array of at most [`APPEND_RECORDS_MAX`] elements; what lies beyond is read and not kept.
pub(crate) struct Bounded<T> {
    first: Vec<T>,
    beyond: usize,
}

impl<T> Bounded<T> {
    pub(crate) fn all(self) -> Result<Vec<T>, Refusal> {
        if self.beyond == 0 {
            return Ok(self.first);
        }
        let records = self.first.len() + self.beyond;
        let detail =
            format!("the append has {records} records, at most {APPEND_RECORDS_MAX} are taken at once: send several");
        Err(Refusal::new(Code::BodyTooLarge, detail).with("recordsMax", APPEND_RECORDS_MAX))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Bounded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BoundedVisitor(PhantomData))
    }
}

struct BoundedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for BoundedVisitor<T> {
    type Value = Bounded<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut first = Vec::new();
        while first.len() < APPEND_RECORDS_MAX {
            match elements.next_element()? {
                Some(element) => first.push(element),
                None => return Ok(Bounded { first, beyond: 0 }),
            }
        }
        let mut beyond = 0;
        while elements.next_element::<IgnoredAny>()?.is_some() {
            beyond += 1;
        }
        Ok(Bounded { first, beyond })
    }
}

/// Appends valid JSON without its line breaks, which stand only between tokens: so a record is a line of NDJSON and of an SSE event.
#[inline] // Every append of JSON comes here: it costs no call for being of use to others, too.
pub fn push_on_one_line(out: &mut Vec<u8>, json: &[u8]) {
    if !json.iter().any(|b| matches!(b, b'\n' | b'\r')) {
        out.extend_from_slice(json);
        return;
    }
    let (mut in_string, mut escaped) = (false, false);
    for &byte in json {
        if in_string {
            (in_string, escaped) = (escaped || byte != b'"', !escaped && byte == b'\\');
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            in_string = byte == b'"';
        }
        out.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(body: &str) -> Vec<String> {
        split(Kind::Json, body.as_bytes()).unwrap().iter().map(|b| String::from_utf8(b.to_vec()).unwrap()).collect()
    }

    #[test]
    fn one_array_level_is_flattened_and_numbers_keep_their_letters() {
        assert_eq!(json("[1.0e2, [2], {\"a\":9007199254740993.10}]"), ["1.0e2", "[2]", "{\"a\":9007199254740993.10}"]);
        assert_eq!(json(" 7 "), ["7"]);
        assert!(json("[]").is_empty());
    }

    #[test]
    fn a_record_has_no_line_break() {
        assert_eq!(json("{\r\n  \"a b\" : \"c\\\" d\\\\\",\n \"e\": [1,\n 2] }"), [r#"{"a b":"c\" d\\","e":[1,2]}"#]);
    }

    #[test]
    fn what_is_not_json_or_utf8_is_refused() {
        for bad in ["", "{", "[1,]", "1 2", "nul", "\u{feff}1"] {
            assert_eq!(split(Kind::Json, bad.as_bytes()).expect_err(bad).code, Code::InvalidJson);
        }
        assert_eq!(split(Kind::Text, b"a\xff").unwrap_err().code, Code::InvalidUtf8);
        assert_eq!(split(Kind::Json, b"\"\xff\"").unwrap_err().code, Code::InvalidUtf8);
    }

    #[test]
    fn an_append_of_countless_records_is_refused() {
        let array = |records: usize| format!("[{}]", vec!["1"; records].join(","));
        assert_eq!(elements(&array(APPEND_RECORDS_MAX)).unwrap().len(), APPEND_RECORDS_MAX);
        let refusal = elements(&array(APPEND_RECORDS_MAX + 1)).unwrap_err();
        assert_eq!(refusal.code, Code::BodyTooLarge);
        assert!(refusal.detail.contains("100001"), "{}", refusal.detail);
        assert_eq!(elements(&(array(APPEND_RECORDS_MAX + 1) + "]")).unwrap_err().code, Code::InvalidJson);
    }

    #[test]
    fn content_types_compare_without_case_and_parameters() {
        assert_eq!(Kind::of("Application/JSON; charset=utf-8"), Kind::Json);
        assert_eq!(Kind::of("TEXT/plain"), Kind::Text);
        assert_eq!(Kind::of("application/json-seq"), Kind::Binary);
        assert!(same_content_type("text/plain;charset=utf-8", "Text/Plain"));
        for bad in ["", "text", "text/", "/plain", "text/pl ain", "text/plain\r\nx: y", "é/x"] {
            assert!(!is_content_type(bad), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn pretty_printing_changes_nothing(text in "\\PC{0,20}", n in any::<i64>()) {
            let value = serde_json::json!({"t": text, "n": [n, {"x": text}]});
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            let records = json(&pretty);
            prop_assert!(!records[0].contains('\n'));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&records[0]).unwrap(), value);
        }
    }
}
