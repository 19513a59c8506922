//! What a read delivers, whichever transport it came by. Protocol page: "The message".

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::failure::Failure;

/// The message object; records keep their bytes to the letter.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Message {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) records: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stream_next_offset: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stream_cursor: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) up_to_date: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) stream_closed: bool,
    /// How the call has ended whose stream this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ending: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gap: Option<Gap>,
    #[serde(skip_serializing)]
    pub(crate) goodbye: Option<Goodbye>,
}

/// Records that the reader wanted and retention has dropped.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Gap {
    pub(crate) from: String,
    pub(crate) to: String,
}

/// The server ends the connection on purpose.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Goodbye {
    pub(crate) code: String,
    #[serde(default)]
    reconnect_after_ms: Option<u64>,
}

impl Goodbye {
    /// When to come back.
    pub(crate) fn after(&self) -> Option<Duration> {
        self.reconnect_after_ms.map(Duration::from_millis)
    }

    /// Whether there is nothing left to come back to.
    pub(crate) fn is_final(&self) -> bool {
        self.code == "stream-deleted"
    }
}

impl Message {
    /// Reads the JSON object of a WebSocket message or of a line.
    pub(crate) fn read(text: &str) -> Result<Self, Failure> {
        serde_json::from_str(text).map_err(|error| Failure::Garbled(format!("a message: {error}")))
    }
}

/// How records are written, by the stream's content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `application/json`: values.
    Json,
    /// `text/*`: strings.
    Text,
    /// All else: base64.
    Binary,
}

impl Format {
    /// By content type; parameters and case do not matter.
    pub(crate) fn of(content_type: &str) -> Self {
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/json" => Self::Json,
            text if text.starts_with("text/") => Self::Text,
            _ => Self::Binary,
        }
    }

    /// The records in the body of a poll: the elements of the array; the lines of a text, each with its line break,
    /// since the body does not say where a record ends; other bytes as one.
    pub(crate) fn records(self, body: &[u8]) -> Result<Vec<Box<RawValue>>, Failure> {
        let garbled = |why: String| Failure::Garbled(format!("the records: {why}"));
        if body.is_empty() {
            return Ok(Vec::new());
        }
        match self {
            Self::Json => serde_json::from_slice(body).map_err(|error| garbled(error.to_string())),
            Self::Text => {
                let text = std::str::from_utf8(body).map_err(|error| garbled(error.to_string()))?;
                Ok(text.split_inclusive('\n').map(quoted).collect())
            }
            Self::Binary => Ok(vec![quoted(&STANDARD.encode(body))]),
        }
    }
}

/// A JSON string.
pub(crate) fn quoted(text: &str) -> Box<RawValue> {
    to_raw_value(text).expect("a string is always JSON")
}

fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_keeps_its_records_to_the_letter() {
        let text = r#"{"records":[{"a": 1.10},"x"],"streamNextOffset":"o","upToDate":true,"new":{"member":1}}"#;
        let message = Message::read(text).unwrap();
        assert_eq!(message.records[0].get(), r#"{"a": 1.10}"#);
        assert!(message.up_to_date && !message.stream_closed);
        assert_eq!(
            serde_json::to_string(&message).unwrap(),
            r#"{"records":[{"a": 1.10},"x"],"streamNextOffset":"o","upToDate":true}"#
        );
    }

    #[test]
    fn a_goodbye_says_when_to_come_back() {
        let message = Message::read(r#"{"goodbye":{"code":"draining","reconnectAfterMs":812},"streamNextOffset":"o"}"#);
        let goodbye = message.unwrap().goodbye.unwrap();
        assert_eq!(goodbye.after(), Some(Duration::from_millis(812)));
        assert!(!goodbye.is_final());
    }

    #[test]
    fn a_body_is_cut_into_records_by_its_type() {
        let read = |content_type: &str, body: &[u8]| -> Vec<String> {
            let records = Format::of(content_type).records(body).unwrap();
            records.iter().map(|record| record.get().to_owned()).collect()
        };
        assert_eq!(read("Application/JSON; charset=utf-8", b"[1,\n {\"a\":2}]"), ["1", "{\"a\":2}"]);
        assert_eq!(read("text/plain", b"a\n\nb"), [r#""a\n""#, r#""\n""#, r#""b""#]);
        assert_eq!(read("image/png", b"\xff\x00"), [r#""/wA=""#]);
        assert_eq!(read("application/json", b""), [""; 0]);
        assert!(Format::Text.records(b"\xff").is_err());
    }
}
