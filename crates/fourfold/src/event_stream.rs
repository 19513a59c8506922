//! Server-sent events, read incrementally: the same events come out however the bytes were split on the way.
//!
//! Spec: the HTML standard, "Interpreting an event stream". An event that the connection's end cut in two is dropped.

use std::{collections::VecDeque, time::Duration};

/// The longest line that is held: four times the largest record that a server takes by default, in base64.
const LINE_BYTES_MAX: usize = 128 << 20;

/// What a stream of events says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// An event with data.
    Event {
        /// `message` if the server gave none.
        name: String,
        /// The lines, joined by line feeds.
        data: String,
        /// The last id seen, this event's own included.
        id: String,
    },
    /// How long to wait before connecting again.
    Retry(Duration),
}

/// A line was longer than any server of ours writes.
#[derive(Debug, thiserror::Error)]
#[error("a line of the event stream is longer than {LINE_BYTES_MAX} bytes")]
pub(crate) struct LineTooLong;

/// The parser.
#[derive(Debug, Default)]
pub(crate) struct EventStream {
    line: Vec<u8>,
    /// The last byte was a CR: a LF that follows belongs to it.
    after_cr: bool,
    /// The first line has been read, so that no byte order mark can come any more.
    begun: bool,
    name: String,
    data: String,
    has_data: bool,
    id: String,
    items: VecDeque<Item>,
}

impl EventStream {
    /// Takes the next bytes; what they complete is then in [`next`](Self::next).
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), LineTooLong> {
        let mut rest = bytes;
        if self.after_cr && !rest.is_empty() {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            self.after_cr = false;
        }
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n' || byte == b'\r') {
            self.line.extend_from_slice(&rest[..end]);
            let was_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            if was_cr {
                match rest.first() {
                    Some(b'\n') => rest = &rest[1..],
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            self.end_line();
        }
        self.line.extend_from_slice(rest);
        if self.line.len() > LINE_BYTES_MAX { Err(LineTooLong) } else { Ok(()) }
    }

    /// The next item that is whole.
    pub(crate) fn next(&mut self) -> Option<Item> {
        self.items.pop_front()
    }

    fn end_line(&mut self) {
        let bytes = std::mem::take(&mut self.line);
        let mut line: &str = &String::from_utf8_lossy(&bytes);
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            return self.dispatch();
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
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                if let Ok(ms) = value.parse() {
                    self.items.push_back(Item::Retry(Duration::from_millis(ms)));
                }
            }
            _ => {} // A comment (an empty field name), or a field that nobody knows yet.
        }
    }

    fn dispatch(&mut self) {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        if std::mem::take(&mut self.has_data) {
            let name = if name.is_empty() { "message".to_owned() } else { name };
            self.items.push_back(Item::Event { name, data, id: self.id.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn items(pieces: &[&[u8]]) -> Vec<Item> {
        let mut stream = EventStream::default();
        let mut items = Vec::new();
        for piece in pieces {
            stream.push(piece).unwrap();
            items.extend(std::iter::from_fn(|| stream.next()));
        }
        items
    }

    fn event(name: &str, data: &str, id: &str) -> Item {
        Item::Event { name: name.into(), data: data.into(), id: id.into() }
    }

    #[test]
    fn the_page_s_example_reads_as_it_says() {
        let text = "retry: 1374\n\nevent: data\ndata: [{\"a\":1},\ndata: 2]\nid: x\n\n: still here\n\nevent: control\ndata: {}\nid: x\n\n";
        assert_eq!(
            items(&[text.as_bytes()]),
            [
                Item::Retry(Duration::from_millis(1374)),
                event("data", "[{\"a\":1},\n2]", "x"),
                event("control", "{}", "x")
            ]
        );
    }

    #[test]
    fn odd_lines_are_read_as_the_standard_says() {
        let text =
            "\u{feff}data\ndata:  b\nid: 1\nid: a\0b\nretry: 1x\nunknown: y\n\nevent: no data\n\ndata: c\n\ndata: cut";
        assert_eq!(items(&[text.as_bytes()]), [event("message", "\n b", "1"), event("message", "c", "1")]);
    }

    #[test]
    fn a_text_keeps_its_last_line_break() {
        assert_eq!(items(&[b"data: one\ndata: two\ndata: \n\n"]), [event("message", "one\ntwo\n", "")]);
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_events(
            lines in prop::collection::vec("(event: [a-z]{0,3}|data: [a-zü\u{1f600}]{0,5}|id: [0-9]{0,3}|: c|retry: [0-9]{1,4}|)", 0..40),
            ends in prop::collection::vec(prop::sample::select(vec!["\n", "\r", "\r\n"]), 40),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let text: String = lines.iter().zip(&ends).flat_map(|(line, end)| [line.as_str(), *end]).collect();
            let bytes = text.as_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(items(&pieces), items(&[bytes]));
        }
    }
}
