//! Records that tell who wrote them and which one of his they are, so that a lost, doubled or moved one is found.

use serde_json::value::RawValue;

/// What a stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Objects.
    Json,
    /// Lines, each ended by LF, because short poll answers with nothing between the records.
    Text,
}

impl Kind {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Text => "text/plain; charset=utf-8",
        }
    }

    /// The `n`th record of `writer`, to the letter.
    pub(crate) fn record(self, writer: &str, n: u64) -> String {
        let rest = "x".repeat(usize::try_from(n * 7 % 120).expect("it is small"));
        match self {
            Self::Json => format!(r#"{{"by":"{writer}", "n":{n}, "text":"zwölf \"Boxkämpfer\" {rest}"}}"#),
            Self::Text => format!("{writer} {n} zwölf \"Boxkämpfer\" {rest}\n"),
        }
    }

    /// Who wrote it and which one it is; `None` if it is not to the letter what was written.
    pub(crate) fn read(self, record: &str) -> Option<(String, u64)> {
        let (writer, n) = match self {
            Self::Json => {
                let value: serde_json::Value = serde_json::from_str(record).ok()?;
                (value["by"].as_str()?.to_owned(), value["n"].as_u64()?)
            }
            Self::Text => {
                let mut words = record.split(' ');
                (words.next()?.to_owned(), words.next()?.parse().ok()?)
            }
        };
        (self.record(&writer, n) == record).then_some((writer, n))
    }

    /// How many records one `POST` may hold.
    pub(crate) fn body_records_max(self) -> u64 {
        match self {
            Self::Json => 6,
            Self::Text => 1,
        }
    }

    /// The body of an append.
    pub(crate) fn body(self, records: &[String]) -> String {
        match self {
            Self::Json => format!("[{}]", records.join(",")),
            Self::Text => records.concat(),
        }
    }

    /// The value of `append` in a WebSocket message.
    pub(crate) fn array(self, records: &[String]) -> String {
        match self {
            Self::Json => self.body(records),
            Self::Text => serde_json::to_string(records).expect("strings are JSON"),
        }
    }

    /// The records of a whole answer.
    pub(crate) fn split(self, body: &str) -> Vec<String> {
        match self {
            Self::Json => self.values(&serde_json::from_str::<Vec<Box<RawValue>>>(body).expect("an array of values")),
            Self::Text => body.split_inclusive('\n').map(str::to_owned).collect(),
        }
    }

    /// The records of a message.
    pub(crate) fn values(self, values: &[Box<RawValue>]) -> Vec<String> {
        let value = |value: &RawValue| match self {
            Self::Json => value.get().to_owned(),
            Self::Text => serde_json::from_str(value.get()).expect("records of a text are strings"),
        };
        values.iter().map(|raw| value(raw)).collect()
    }
}
