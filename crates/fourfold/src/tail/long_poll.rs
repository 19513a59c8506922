//! Long poll, in portions where the server can: one answer with a message a line, then the next request.
//!
//! A server that knows only the base protocol answers as a plain long poll, which is read as well.

use std::time::Duration;

use super::{Ended, Reader, Sink, Stopped};
use crate::{
    answer,
    client::header,
    failure::{Failure, checked},
    message::Message,
};

/// The longest line that is held, as for the other transports.
const LINE_BYTES_MAX: usize = 128 << 20;

pub(super) async fn read<S: Sink>(reader: &mut Reader<S>) -> Result<Ended, Stopped> {
    let parameters = format!("&live=long-poll{}", reader.poll_parameters());
    let url = reader.client.read_url(&reader.offset, &parameters);
    let request = reader.client.get(&url).header("accept", "application/x-ndjson");
    let mut response = checked(request.send().await?).await?;
    if !header(response.headers(), "content-type").is_some_and(|value| value.starts_with("application/x-ndjson")) {
        let (message, after) = answer::read(reader.format_of(&response), response).await?;
        return Ok(reader.take(&message).await?.unwrap_or(Ended::Again(after.unwrap_or_default())));
    }
    let mut line = Vec::new();
    let mut delivered = false;
    while let Some(chunk) = response.chunk().await? {
        let mut rest: &[u8] = &chunk;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let text = std::str::from_utf8(&line).map_err(|error| Failure::Garbled(error.to_string()))?;
            if let Some(ended) = reader.take_one_of_many(&Message::read(text)?).await? {
                return Ok(ended);
            }
            line.clear();
            delivered = true;
        }
        reader.output.flush().map_err(Stopped::Unwritten)?;
        line.extend_from_slice(rest);
        if line.len() > LINE_BYTES_MAX {
            return Err(Failure::Garbled(format!("a line is longer than {LINE_BYTES_MAX} bytes")).into());
        }
    }
    // A line that was cut in the middle was not delivered. Without any line, waiting keeps this from spinning.
    if delivered { Ok(Ended::Again(Duration::ZERO)) } else { Err(Failure::cut("the answer was empty").into()) }
}
