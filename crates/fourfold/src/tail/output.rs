//! What `tail` prints: one record a line, or whole messages. Buffered until [`Output::flush`].

use std::io::{self, BufWriter, ErrorKind, Write};

use crate::message::{Format, Message};

/// Where records go. What is handed to it may be held until [`flush`](Self::flush).
pub(crate) trait Sink {
    /// Takes the message's records. Errors: nothing more is wanted, or can be written.
    fn message(&mut self, format: Format, message: &Message) -> Result<(), Unwritten>;
    /// Hands what was taken to whoever reads.
    fn flush(&mut self) -> Result<(), Unwritten>;
    /// How many records are still wanted; `None` for all.
    fn left(&self) -> Option<u64> {
        None
    }
}

/// Records for people and scripts.
#[derive(Debug)]
pub(super) struct Output<W: Write> {
    out: BufWriter<W>,
    /// Whole messages, with offsets.
    objects: bool,
    /// How many records are still wanted; `None` for all.
    left: Option<u64>,
    begun: bool,
}

/// Why nothing more is printed.
#[derive(Debug)]
pub(crate) enum Unwritten {
    /// As many records as were asked for, or whoever reads has gone.
    Enough,
    /// The disk behind standard output is full, or the like.
    Failed(io::Error),
}

impl From<io::Error> for Unwritten {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe { Self::Enough } else { Self::Failed(error) }
    }
}

impl<W: Write> Output<W> {
    pub(super) fn new(out: W, objects: bool, limit: Option<u64>) -> Self {
        Self { out: BufWriter::new(out), objects, left: limit, begun: false }
    }

    /// A JSON value to the letter; a text as it is, with a line break if it has none; bytes in base64.
    fn record(&mut self, format: Format, json: &str) -> io::Result<()> {
        if format == Format::Json {
            self.out.write_all(json.as_bytes())?;
            return self.out.write_all(b"\n");
        }
        let text: String = serde_json::from_str(json)?;
        self.out.write_all(text.as_bytes())?;
        if text.ends_with('\n') { Ok(()) } else { self.out.write_all(b"\n") }
    }
}

impl<W: Write> Sink for Output<W> {
    fn left(&self) -> Option<u64> {
        self.left
    }

    /// Prints the message's records, or the message itself if it says anything new.
    fn message(&mut self, format: Format, message: &Message) -> Result<(), Unwritten> {
        let wanted = self.left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let says_something = !message.records.is_empty() || message.gap.is_some() || message.stream_closed;
        if !self.objects {
            for record in message.records.iter().take(wanted) {
                self.record(format, record.get())?;
            }
        } else if says_something || !self.begun {
            serde_json::to_writer(&mut self.out, message).map_err(io::Error::from)?;
            self.out.write_all(b"\n")?;
        }
        self.begun = true;
        let Some(left) = &mut self.left else { return Ok(()) };
        *left = left.saturating_sub(message.records.len() as u64);
        if *left == 0 { Err(Unwritten::Enough) } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Unwritten> {
        Ok(self.out.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(format: Format, objects: bool, limit: Option<u64>, messages: &[&str]) -> (String, bool) {
        let mut out = Vec::new();
        let mut output = Output::new(&mut out, objects, limit);
        let enough = messages.iter().any(|text| output.message(format, &Message::read(text).unwrap()).is_err());
        drop(output);
        (String::from_utf8(out).unwrap(), enough)
    }

    #[test]
    fn one_record_is_one_line() {
        let json = r#"{"records":[{"a": 1.10},"x"],"streamNextOffset":"o"}"#;
        assert_eq!(printed(Format::Json, false, None, &[json]), ("{\"a\": 1.10}\n\"x\"\n".into(), false));
        let text = r#"{"records":["a\n","b","\n"],"streamNextOffset":"o"}"#;
        assert_eq!(printed(Format::Text, false, None, &[text]).0, "a\nb\n\n");
        let binary = r#"{"records":["/wA="],"encoding":"base64","streamNextOffset":"o"}"#;
        assert_eq!(printed(Format::Binary, false, None, &[binary]).0, "/wA=\n");
    }

    #[test]
    fn the_limit_counts_records_across_messages() {
        let message = r#"{"records":[1,2,3],"streamNextOffset":"o"}"#;
        assert_eq!(printed(Format::Json, false, Some(4), &[message, message]), ("1\n2\n3\n1\n".into(), true));
        assert_eq!(printed(Format::Json, false, Some(4), &[message]), ("1\n2\n3\n".into(), false));
    }

    #[test]
    fn whole_messages_are_printed_when_they_say_something() {
        let here = r#"{"streamNextOffset":"o","upToDate":true}"#;
        let records = r#"{"records":[1],"streamNextOffset":"p","upToDate":true}"#;
        let (text, _) = printed(Format::Json, true, None, &[here, here, records, here]);
        assert_eq!(text, format!("{here}\n{records}\n"));
    }
}
