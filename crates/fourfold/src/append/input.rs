//! The input of `append`: cut into lines, checked, and made into records. Blocks; runs on a thread of its own.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::follow::Followed;
use crate::{
    message::{Format, quoted},
    producer::Record,
};

/// The longest record that is held: four times what a server takes by default.
const RECORD_BYTES_MAX: u64 = 64 << 20;

/// What is wrong with the input.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    /// It cannot be opened or read.
    #[error("{name} cannot be read: {why}")]
    Unreadable {
        /// The file, or standard input.
        name: String,
        /// What the system said.
        why: String,
    },
    /// A text has to be UTF-8.
    #[error("{name} line {line} is not UTF-8")]
    NotUtf8 {
        /// The file, or standard input.
        name: String,
        /// From 1.
        line: u64,
    },
    /// Each line of a JSON stream has to be a value.
    #[error("{name} line {line} is not JSON: {why}")]
    NotJson {
        /// The file, or standard input.
        name: String,
        /// From 1.
        line: u64,
        /// What the parser said.
        why: String,
    },
    /// A record would not fit into any message.
    #[error("{name} line {line} is longer than {RECORD_BYTES_MAX} bytes")]
    TooLong {
        /// The file, or standard input.
        name: String,
        /// From 1.
        line: u64,
    },
}

/// Where the lines come from.
pub(super) struct Input {
    name: String,
    size: Option<u64>,
    source: Box<dyn BufRead + Send>,
}

impl Input {
    /// The file, followed or read to its end, or standard input.
    pub(super) fn open(file: Option<&Path>, follow: bool) -> Result<Self, InputError> {
        let Some(path) = file else {
            let source = Box::new(BufReader::new(std::io::stdin()));
            return Ok(Self { name: "standard input".into(), size: None, source });
        };
        let name = path.display().to_string();
        if follow {
            return Ok(Self { name, size: None, source: Box::new(BufReader::new(Followed::new(path))) });
        }
        let unreadable = |why: std::io::Error| InputError::Unreadable { name: name.clone(), why: why.to_string() };
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let size = metadata.is_file().then_some(metadata.len());
        Ok(Self { name, size, source: Box::new(BufReader::new(file)) })
    }

    /// In bytes, if it is known beforehand.
    pub(super) fn size(&self) -> Option<u64> {
        self.size
    }

    /// Sends the records until the input ends or nobody takes them. Errors: nothing after the wrong line was sent.
    pub(super) fn read(
        mut self,
        format: Format,
        whole: bool,
        records: &mpsc::Sender<Record>,
    ) -> Result<(), InputError> {
        for line in 1.. {
            let mut bytes = Vec::new();
            let mut bounded = (&mut self.source).take(RECORD_BYTES_MAX + 1);
            let read = if whole { bounded.read_to_end(&mut bytes) } else { bounded.read_until(b'\n', &mut bytes) };
            read.map_err(|why| InputError::Unreadable { name: self.name.clone(), why: why.to_string() })?;
            if bytes.is_empty() {
                break;
            }
            if bytes.len() as u64 > RECORD_BYTES_MAX {
                return Err(InputError::TooLong { name: self.name, line });
            }
            let Some(json) = encoded(format, &bytes, &self.name, line)? else { continue };
            let record = Record { json, bytes: bytes.len() as u64 };
            if records.blocking_send(record).is_err() || whole {
                break;
            }
        }
        Ok(())
    }
}

/// As the wire wants it; `None` for a line of a JSON stream that holds nothing.
fn encoded(format: Format, bytes: &[u8], name: &str, line: u64) -> Result<Option<String>, InputError> {
    if format == Format::Binary {
        return Ok(Some(quoted(&STANDARD.encode(bytes)).get().to_owned()));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| InputError::NotUtf8 { name: name.to_owned(), line })?;
    if format == Format::Text {
        return Ok(Some(quoted(text).get().to_owned()));
    }
    let value = text.trim();
    if value.is_empty() {
        return Ok(None);
    }
    match serde_json::from_str::<&RawValue>(value) {
        Ok(value) => Ok(Some(value.get().to_owned())),
        Err(why) => Err(InputError::NotJson { name: name.to_owned(), line, why: why.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &'static [u8], format: Format, whole: bool) -> (Vec<String>, Result<(), InputError>) {
        let (sender, mut receiver) = mpsc::channel(100);
        let input = Input { name: "standard input".into(), size: None, source: Box::new(bytes) };
        let result = input.read(format, whole, &sender);
        let records = std::iter::from_fn(|| receiver.try_recv().ok()).map(|record| record.json).collect();
        (records, result)
    }

    #[test]
    fn a_text_line_keeps_its_line_break() {
        let (records, result) = read("one\n\nzwölf \"\r\nend".as_bytes(), Format::Text, false);
        assert_eq!(records, [r#""one\n""#, r#""\n""#, r#""zwölf \"\r\n""#, r#""end""#]);
        result.unwrap();
    }

    #[test]
    fn a_json_line_is_kept_to_the_letter_and_blank_ones_are_skipped() {
        let (records, result) = read(b"{\"a\": 1.10}\n\n \"x\" \r\n", Format::Json, false);
        assert_eq!(records, [r#"{"a": 1.10}"#, r#""x""#]);
        result.unwrap();
    }

    #[test]
    fn nothing_after_a_wrong_line_is_sent_and_the_line_is_named() {
        let (records, result) = read(b"1\n\n{\"a\"\n2\n", Format::Json, false);
        assert_eq!(records, ["1"]);
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with("standard input line 3 is not JSON: "), "{error}");
        let (records, result) = read(b"a\n\xff\nb\n", Format::Text, false);
        assert_eq!(records, [r#""a\n""#]);
        assert_eq!(result.unwrap_err().to_string(), "standard input line 2 is not UTF-8");
    }

    #[test]
    fn the_whole_input_is_one_record_of_any_type() {
        assert_eq!(read(b"a\nb\n", Format::Text, true).0, [r#""a\nb\n""#]);
        assert_eq!(read(b"\xff\x00", Format::Binary, true).0, [r#""/wA=""#]);
        assert_eq!(read(b"[1,\n2]\n", Format::Json, true).0, ["[1,\n2]"]);
        assert!(read(b"", Format::Text, true).0.is_empty());
    }
}
