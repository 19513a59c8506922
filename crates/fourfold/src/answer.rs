//! The answer to a poll: the same facts as in a message, but in headers, and the records as a body.

use std::time::Duration;

use reqwest::{Response, StatusCode, header::HeaderMap};
use serde_json::value::RawValue;

use crate::{
    client::{header, is_true},
    failure::Failure,
    message::{Format, Message},
};

/// The largest body that is held; a server of ours ends at 1 MiB or one record.
const BODY_BYTES_MAX: usize = 128 << 20;

/// The message that it stands for, and when the server advises to ask again.
pub(crate) async fn read(format: Format, mut response: Response) -> Result<(Message, Option<Duration>), Failure> {
    let mut message = described(format, response.status(), response.headers())?;
    let after =
        header(response.headers(), "stream-poll-after").and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > BODY_BYTES_MAX {
            return Err(Failure::Garbled(format!("the body is longer than {BODY_BYTES_MAX} bytes")));
        }
    }
    message.records = format.records(&body)?;
    message.encoding = (format == Format::Binary && !message.records.is_empty()).then(|| "base64".to_owned());
    Ok((message, after))
}

fn described(format: Format, status: StatusCode, headers: &HeaderMap) -> Result<Message, Failure> {
    // A portal that answers for the server would otherwise be printed.
    if status == StatusCode::OK && header(headers, "content-type").is_some_and(|sent| Format::of(&sent) != format) {
        return Err(Failure::Garbled("the body is not of the stream's content type".into()));
    }
    let stream_next_offset = header(headers, "stream-next-offset");
    if stream_next_offset.is_none() && status != StatusCode::NOT_MODIFIED {
        return Err(Failure::Garbled("it lacks stream-next-offset".into()));
    }
    let stream_closed = is_true(headers, "stream-closed");
    Ok(Message {
        stream_next_offset,
        stream_cursor: header(headers, "stream-cursor"),
        up_to_date: is_true(headers, "stream-up-to-date") || status == StatusCode::NOT_MODIFIED,
        stream_closed,
        ending: header(headers, "stream-ending").and_then(|json| RawValue::from_string(json).ok()),
        ..Message::default()
    })
}
