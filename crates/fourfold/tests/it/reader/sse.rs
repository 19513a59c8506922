//! Server-Sent Events, read as the HTML standard says.

use std::mem::take;

use futures_util::StreamExt;
use reqwest::Response;
use serde_json::Value;

use super::{Cut, Reader, answer, cut};
use crate::records::Kind;

#[derive(Default)]
struct Event {
    name: String,
    data: Option<String>,
    id: String,
}

pub(super) async fn leg(reader: &mut Reader) -> Result<(), Cut> {
    let mut request = reader.http.get(format!("{}?offset=-1&live=sse", reader.target.url()));
    if reader.offset != "-1" {
        request = request.header("Last-Event-ID", &reader.offset);
    }
    read(reader, answer(request, &[200]).await?).await
}

/// Reads what an answer carries.
pub(super) async fn read(reader: &mut Reader, answer: Response) -> Result<(), Cut> {
    let (mut chunks, mut text, mut event) = (answer.bytes_stream(), Vec::new(), Event::default());
    while let Some(chunk) = chunks.next().await {
        text.extend_from_slice(&chunk.map_err(cut)?);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let line = std::str::from_utf8(&line[..end]).expect("events are UTF-8");
            if !line.is_empty() {
                event.field(line);
                continue;
            }
            // An empty line ends an event; one without data is none.
            let Event { name, data, id } = take(&mut event);
            if let Some(data) = data {
                dispatch(reader, &name, &data, &id);
            }
            if reader.done() {
                return Ok(());
            }
        }
    }
    Ok(())
}

impl Event {
    fn field(&mut self, line: &str) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "id" => value.clone_into(&mut self.id),
            "data" => match &mut self.data {
                Some(data) => *data += &format!("\n{value}"),
                None => self.data = Some(value.to_owned()),
            },
            "retry" => assert!(value.parse::<u64>().is_ok(), "{line}"),
            "" => {} // a comment
            _ => panic!("not a field of an event: {line}"),
        }
    }
}

fn dispatch(reader: &mut Reader, name: &str, data: &str, id: &str) {
    match name {
        "data" => {
            let records = match reader.target.kind {
                Kind::Json => reader.target.kind.split(data),
                Kind::Text => vec![data.to_owned()],
            };
            reader.take(records, id, false);
        }
        "control" => {
            let control: Value = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"));
            assert_eq!(control["streamNextOffset"], id);
            reader.take(Vec::new(), id, control["streamClosed"] == true);
        }
        "goodbye" => reader.bid(data),
        _ => panic!("not expected here: event {name} with {data}"),
    }
}
