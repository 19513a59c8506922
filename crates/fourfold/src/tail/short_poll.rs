//! Short poll: ask, and ask again when the server advises; an answer that nothing is new costs it no read.

use std::time::Duration;

use super::{Ended, Reader, Sink, Stopped};
use crate::{answer, client::header, failure::checked};

/// When to ask again where the server gives no advice.
const POLL_AFTER: Duration = Duration::from_secs(1);

pub(super) async fn read<S: Sink>(reader: &mut Reader<S>) -> Result<Ended, Stopped> {
    let mut known: Option<(String, String)> = None; // The URL, and the tag of its last answer.
    loop {
        let url = reader.client.read_url(&reader.offset, &reader.poll_parameters());
        let mut request = reader.client.get(&url);
        if let Some((_, tag)) = known.as_ref().filter(|(of, _)| *of == url) {
            request = request.header("if-none-match", tag);
        }
        let response = checked(request.send().await?).await?;
        if let Some(tag) = header(response.headers(), "etag") {
            known = Some((url, tag));
        }
        let (message, after) = answer::read(reader.format_of(&response), response).await?;
        if let Some(ended) = reader.take(&message).await? {
            return Ok(ended);
        }
        if message.up_to_date {
            tokio::time::sleep(after.unwrap_or(POLL_AFTER)).await;
        }
    }
}
