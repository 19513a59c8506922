//! Server-sent events: `data` carries records, the `control` behind it says where the reader stands.

use std::time::Duration;

use serde_json::value::RawValue;

use super::{Ended, Reader, Sink, Stopped};
use crate::{
    client::header,
    event_stream::{EventStream, Item},
    failure::{Failure, checked},
    message::{Format, Message, quoted},
};

pub(super) async fn read<S: Sink>(reader: &mut Reader<S>) -> Result<Ended, Stopped> {
    let mut advice = None;
    match read_events(reader, &mut advice).await {
        // What the server said about coming back holds for a cut as well.
        Err(Stopped::Failure(Failure::Passing { why, after: None })) => {
            Err(Failure::Passing { why, after: advice }.into())
        }
        round => round,
    }
}

async fn read_events<S: Sink>(reader: &mut Reader<S>, advice: &mut Option<Duration>) -> Result<Ended, Stopped> {
    let url = reader.client.read_url(&reader.offset, "&live=sse");
    let request = reader.client.get(&url).header("accept", "text/event-stream");
    let mut response = checked(request.send().await?).await?;
    let base64 = header(response.headers(), "stream-sse-data-encoding").is_some_and(|value| value == "base64");
    let mut events = EventStream::default();
    let mut records = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        events.push(&chunk).map_err(|error| Failure::Garbled(error.to_string()))?;
        while let Some(item) = events.next() {
            let (name, data) = match item {
                Item::Retry(after) => {
                    *advice = Some(after);
                    continue;
                }
                Item::Event { name, data, .. } => (name, data),
            };
            let mut message = match name.as_str() {
                "data" => {
                    reader.settle().await?;
                    records = carried(reader.format, base64, &data)?;
                    continue;
                }
                "control" | "goodbye" | "gap" => Message::read(&data)?,
                _ => continue, // New events may be added.
            };
            message.records = std::mem::take(&mut records);
            message.encoding = (base64 && !message.records.is_empty()).then(|| "base64".to_owned());
            if let Some(ended) = reader.take_one_of_many(&message).await? {
                return Ok(ended);
            }
        }
        reader.output.flush().map_err(Stopped::Unwritten)?;
    }
    Err(Failure::cut("the server ended the events without a goodbye").into())
}

/// The records of a `data` event.
fn carried(format: Format, base64: bool, data: &str) -> Result<Vec<Box<RawValue>>, Failure> {
    if base64 {
        // The server may have broken the base64 into lines.
        return Ok(vec![quoted(&data.replace(['\n', '\r'], ""))]);
    }
    format.records(data.as_bytes())
}
