//! Server-sent events: each is a record as `EventSource` gives it, `{"event":"name","data":"…","id":"…"}`, without `event` and `id` where there are none.
//! Comments and `retry` are dropped: they are about the connection.
//!
//! Spec: the HTML standard, "Interpreting an event stream". Bytes that are not UTF-8 become U+FFFD, as there.

use bytes::Bytes;
use memchr::memchr2;
use serde::Serialize;

use super::{Malformed, too_large};

/// Cuts an output into its events.
#[derive(Debug, Default)]
pub(crate) struct Events {
    bytes_max: usize,
    /// The line that is not whole yet.
    line: Vec<u8>,
    /// The last byte was a CR: a LF that follows belongs to it.
    after_cr: bool,
    /// The first line has been read: no byte order mark can come any more.
    begun: bool,
    name: String,
    data: String,
    has_data: bool,
    /// The last one seen: it holds for the events after it, too.
    id: String,
    /// Lines that have ended, in bytes with their line breaks.
    seen: u64,
    begun_at: u64,
}

#[derive(Serialize)]
struct Event<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    event: &'a str,
    data: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
}

impl Events {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    pub(super) fn push(&mut self, bytes: &[u8], records: &mut Vec<Bytes>) -> Result<(), Malformed> {
        let mut rest = bytes;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            if rest[0] == b'\n' {
                (rest, self.seen) = (&rest[1..], self.seen + 1);
            }
        }
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            self.take(&rest[..end])?;
            let is_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            self.seen += self.line.len() as u64 + 1;
            self.end_line(records);
            match rest.first() {
                Some(b'\n') if is_cr => (rest, self.seen) = (&rest[1..], self.seen + 1),
                None => self.after_cr = is_cr,
                Some(_) => {}
            }
        }
        self.take(rest)
    }

    /// More of the present line. A comment is bounded like everything else.
    fn take(&mut self, part: &[u8]) -> Result<(), Malformed> {
        if self.line.is_empty() && !self.has_data && self.name.is_empty() {
            self.begun_at = self.seen;
        }
        let held = self.line.len() + part.len() + self.data.len() + self.name.len() + self.id.len();
        if held > self.bytes_max {
            return Err(too_large("event", self.begun_at, self.bytes_max));
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn end_line(&mut self, records: &mut Vec<Bytes>) {
        let bytes = std::mem::take(&mut self.line);
        let mut line: &str = &String::from_utf8_lossy(&bytes);
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            return self.dispatch(records);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            _ => {}
        }
    }

    fn dispatch(&mut self, records: &mut Vec<Bytes>) {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        if std::mem::take(&mut self.has_data) {
            let event = Event { event: &name, data: &data, id: &self.id };
            records.push(serde_json::to_vec(&event).expect("strings are always JSON").into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Splitter, proof::*};
    use super::*;
    use proptest::prelude::*;

    fn events() -> Splitter {
        Splitter::Events(Events::new(1 << 20))
    }

    #[test]
    fn an_event_is_a_record_as_an_event_source_gives_it() {
        let outcome = all(
            events(),
            &["\u{feff}: hello\nretry: 5\n\nevent: progress\ndata: {\"progress\":0.5}\nid: 7\n\ndata: one\rdata:  two\r\ndata\r\n\r\ndata: \"ü\"\n\n"
                .as_bytes()],
        );
        assert_eq!(
            texts(&outcome),
            [
                r#"{"event":"progress","data":"{\"progress\":0.5}","id":"7"}"#,
                r#"{"data":"one\n two\n","id":"7"}"#,
                r#"{"data":"\"ü\"","id":"7"}"#
            ]
        );
    }

    #[test]
    fn what_is_no_event_is_no_record() {
        for none in ["", ": c\n\n", "event: x\n\n", "id: 1\n\n", "data: cut", "data: cut\n", "unknown: x\n\n", "\n\n\n"]
        {
            assert_eq!(all(events(), &[none.as_bytes()]), (Vec::new(), Ok(())), "{none:?}");
        }
        assert_eq!(texts(&all(events(), &[b"data:\n\n"])), [r#"{"data":""}"#], "an empty datum is one");
        assert_eq!(texts(&all(events(), &[b"id: a\0b\ndata: \xff\n\n"])), ["{\"data\":\"\u{fffd}\"}"]);
    }

    #[test]
    fn an_event_that_never_ends_is_not_held_without_bound() {
        for endless in ["data: aaaaaaaaaaaaaaaaaa\n", ": comment without an end", "data"] {
            let mut events = Events::new(100);
            let pushed = (0..100).take_while(|_| events.push(endless.as_bytes(), &mut Vec::new()).is_ok()).count();
            assert!(pushed < 30, "{endless}: {pushed}");
        }
        let broken = all(Splitter::Events(Events::new(20)), &[b"data: a\r\n\r\n", &[b'x'; 21]]);
        assert_eq!(broken.1.unwrap_err().to_string(), "the event that begins at byte 11 has more than 20 bytes");
    }

    proptest! {
        #[test]
        fn every_event_comes_with_the_byte_that_completes_it(
            data in prop::collection::vec("[a-zü😀: ]{0,6}", 1..4), end in prop::sample::select(vec!["\n", "\r", "\r\n"])
        ) {
            let mut events = events();
            let mut records = Vec::new();
            let text: String = data.iter().map(|line| format!("data: {line}{end}")).collect();
            for byte in text.bytes() {
                events.push(Bytes::copy_from_slice(&[byte]), &mut records).unwrap();
            }
            prop_assert!(records.is_empty());
            events.push(Bytes::copy_from_slice(&end.as_bytes()[..1]), &mut records).unwrap();
            prop_assert_eq!(records.len(), 1);
            let record: serde_json::Value = serde_json::from_slice(&records[0]).unwrap();
            prop_assert_eq!(record, serde_json::json!({ "data": data.join("\n") }));
        }
    }
}
