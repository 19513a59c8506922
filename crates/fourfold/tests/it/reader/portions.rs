//! Long poll in portions: a message a line.

use futures_util::StreamExt;
use reqwest::Response;

use super::{Cut, Reader, answer, cut};

pub(super) async fn leg(reader: &mut Reader) -> Result<(), Cut> {
    let url = format!("{}?offset={}&live=long-poll&timeout=5", reader.target.url(), reader.offset);
    let answer = answer(reader.http.get(url).header("Accept", "application/x-ndjson"), &[200]).await?;
    read(reader, answer).await
}

/// Reads what an answer carries.
pub(super) async fn read(reader: &mut Reader, answer: Response) -> Result<(), Cut> {
    let (mut chunks, mut text) = (answer.bytes_stream(), Vec::new());
    while let Some(chunk) = chunks.next().await {
        text.extend_from_slice(&chunk.map_err(cut)?);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            reader.message(std::str::from_utf8(&line).expect("lines are UTF-8"));
            if reader.done() {
                return Ok(());
            }
        }
    }
    assert!(text.is_empty(), "the answer ended as it should, but in the middle of a line");
    Ok(())
}
