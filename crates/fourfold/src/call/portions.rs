//! What a call prints on standard output: JSON values a line each, all else as it came, byte for byte.

use std::io::{ErrorKind, IsTerminal, Stdout, Write};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::value::RawValue;

use super::show::Show;
use crate::{
    message::{Format, Message},
    tail::{Sink, Unwritten},
};

/// What is gathered before it is written without being asked to.
const HELD_BYTES_MAX: usize = 64 << 10;

/// Where a call's portions go.
#[derive(Debug)]
pub(super) struct Portions<W> {
    out: W,
    held: Vec<u8>,
    /// The bar is on the terminal that the portions go to: it must not stand in the middle of a line of theirs.
    beside_the_bar: bool,
    /// The last portion on that terminal had no line break.
    mid_line: bool,
    show: Show,
    /// The stream has been read to its end.
    pub(super) closed: bool,
    /// What it said then.
    pub(super) ending: Option<Box<RawValue>>,
}

impl Portions<Stdout> {
    pub(super) fn new(out: Stdout, show: Show) -> Self {
        Self { beside_the_bar: out.is_terminal(), ..Self::over(out, show) }
    }
}

impl<W: Write> Portions<W> {
    fn over(out: W, show: Show) -> Self {
        Self { out, held: Vec::new(), beside_the_bar: false, mid_line: false, show, closed: false, ending: None }
    }

    /// Nothing more comes: what follows on the terminal begins a line of its own.
    pub(super) fn end(&mut self) {
        self.show.hide(true);
        if std::mem::take(&mut self.mid_line) {
            let _ = writeln!(self.out);
        }
    }

    fn hold(&mut self, format: Format, record: &RawValue) -> Result<(), Unwritten> {
        let garbled =
            |error| Unwritten::Failed(std::io::Error::new(ErrorKind::InvalidData, format!("a record: {error}")));
        match format {
            Format::Json => {
                self.show.look_at(record.get());
                self.held.extend_from_slice(record.get().as_bytes());
                self.held.push(b'\n');
            }
            Format::Text | Format::Binary => {
                let text: String = serde_json::from_str(record.get()).map_err(|error| garbled(error.to_string()))?;
                if format == Format::Text {
                    self.held.extend_from_slice(text.as_bytes());
                } else {
                    self.held.extend(STANDARD.decode(text).map_err(|error| garbled(error.to_string()))?);
                }
            }
        }
        Ok(())
    }
}

impl<W: Write> Sink for Portions<W> {
    fn message(&mut self, format: Format, message: &Message) -> Result<(), Unwritten> {
        for record in &message.records {
            self.hold(format, record)?;
            if self.held.len() > HELD_BYTES_MAX {
                self.flush()?;
            }
        }
        if message.stream_closed {
            self.closed = true;
            self.ending.clone_from(&message.ending);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Unwritten> {
        let Some(last) = self.held.last() else { return Ok(()) };
        let mid_line = self.beside_the_bar && *last != b'\n';
        if mid_line {
            self.show.hide(true);
        }
        self.mid_line = mid_line;
        let (out, held) = (&mut self.out, &self.held);
        let written = self.show.suspend(|| out.write_all(held).and_then(|()| out.flush()));
        self.held.clear();
        self.show.hide(mid_line);
        Ok(written?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_come_out_as_the_target_wrote_them() {
        let mut out = Vec::new();
        let mut portions = Portions::over(&mut out, Show::none());
        for (format, message) in [
            (Format::Json, r#"{"records":[{"a": 1.10},"x"]}"#),
            (Format::Text, r#"{"records":["no line break, ","then one\n"]}"#),
            (
                Format::Binary,
                r#"{"records":["/wA="],"encoding":"base64","streamClosed":true,"ending":{"outcome":"finished"}}"#,
            ),
        ] {
            portions.message(format, &Message::read(message).unwrap()).unwrap();
        }
        portions.flush().unwrap();
        assert_eq!((portions.closed, portions.ending.take().unwrap().get()), (true, r#"{"outcome":"finished"}"#));
        assert_eq!(out, b"{\"a\": 1.10}\n\"x\"\nno line break, then one\n\xff\0");
    }
}
