//! WebSocket: one connection, one message object after the other.

use super::{Ended, Reader, Sink, Stopped};
use crate::{message::Message, websocket};

pub(super) async fn read<S: Sink>(reader: &mut Reader<S>) -> Result<Ended, Stopped> {
    let mut socket = websocket::open(&reader.client, &reader.offset).await?;
    while let Some(text) = websocket::next_text(&mut socket).await? {
        if let Some(ended) = reader.take(&Message::read(&text)?).await? {
            return Ok(ended);
        }
    }
    Ok(Ended::Closed)
}
