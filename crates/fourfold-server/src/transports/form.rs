//! What stands in the body of a poll's answer: the records as the stream's own type has them, or one message.
//!
//! The two forms share everything but `Content-Type`, `ETag` and the body. In a message `streamCursor` is left to the header: a body with
//! a clock in it would be another one under the same tag.

use fourfold_protocol::{Kind, Portion, Record, message};
use fourfold_stream::Stream;

use super::follow;

/// The media type of a message by itself.
pub(crate) const MESSAGE: &str = "application/vnd.fourfold.message+json";

/// The media type that is told of a stream as long as its own is not decided: bytes, of which there are none.
pub(crate) const UNDECIDED: &str = "application/octet-stream";

/// A form of an answer, by the request's `Accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The stream's content type. Spec: "Read Stream - Catch-up".
    Base,
    /// One message, in which records of every type keep their bounds.
    Message,
}

impl Form {
    /// The number of a long poll's dialect.
    pub(crate) fn dialect(self) -> u8 {
        match self {
            Self::Base => follow::LONG_POLL,
            Self::Message => follow::LONG_POLL_MESSAGE,
        }
    }

    pub(crate) fn content_type(self, stream: &Stream) -> &str {
        match self {
            Self::Base if stream.is_undecided() => UNDECIDED,
            Self::Base => &stream.config().content_type,
            Self::Message => MESSAGE,
        }
    }

    /// What its `ETag` ends with, so that one form is never taken for the other.
    pub(crate) fn tag(self) -> &'static str {
        match self {
            Self::Base => "",
            Self::Message => ":m",
        }
    }

    pub(crate) fn body(self, portion: &Portion<'_>) -> Vec<u8> {
        match self {
            Self::Base => base(portion.kind, portion.records),
            Self::Message => {
                let mut body = Vec::with_capacity(512);
                message::write(&Portion { cursor: None, ..*portion }, &mut body);
                body
            }
        }
    }
}

fn base(kind: Kind, records: &[Record]) -> Vec<u8> {
    let bytes: usize = records.iter().map(|r| r.data.len() + 1).sum();
    let mut body = Vec::with_capacity(bytes + 2);
    if kind == Kind::Json {
        body.push(b'[');
    }
    for (n, record) in records.iter().enumerate() {
        if kind == Kind::Json && n > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&record.data);
    }
    if kind == Kind::Json {
        body.push(b']');
    }
    body
}
