//! WebSocket, by a client that knows nothing of Fourfold.

use futures_util::StreamExt;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, Message},
};

use super::{Cut, Reader};

pub(super) async fn leg(reader: &mut Reader) -> Result<(), Cut> {
    let url = format!("{}?offset={}", reader.target.url().replacen("http", "ws", 1), reader.offset);
    let mut socket = match connect_async(url).await {
        Ok((socket, _)) => socket,
        Err(Error::Http(answer)) if answer.status().as_u16() != 503 => panic!("refused: {answer:?}"),
        Err(error) => return Err(Cut(error.to_string())),
    };
    while !reader.done() {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => reader.message(text.as_str()),
            Some(Ok(Message::Close(Some(frame)))) => {
                check_close(frame.code.into(), &frame.reason);
                return Ok(());
            }
            Some(Ok(Message::Ping(_))) => {}
            Some(Ok(other)) => panic!("not expected here: {other:?}"),
            Some(Err(error)) => return Err(Cut(error.to_string())),
            None => return Err(Cut("no more".into())),
        }
    }
    Ok(())
}

/// The end of the stream is told before it is closed, so whoever sees this code has seen `streamClosed`.
pub(super) fn check_close(code: u16, reason: &str) {
    assert_eq!((code, reason), (1001, "draining"));
}
