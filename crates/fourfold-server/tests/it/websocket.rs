//! A WebSocket client by hand, as broken as a test wants it, and tungstenite for one that is not ours.

use std::net::TcpStream;

use fourfold_protocol::websocket::{Deflater, Inflater};
use serde_json::Value;
use tokio_tungstenite::tungstenite;

use crate::{
    harness::Harness,
    http::{Answer, Client},
};

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
pub(crate) const DEFLATED_TEXT: u8 = 0xc1;

/// The key of the RFC's own example, and what a server makes of it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(crate) const HANDSHAKE: [(&str, &str); 4] = [
    ("connection", "keep-alive, Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", KEY),
];

pub(crate) struct WebSocket {
    pub(crate) client: Client,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Message {
    Json(Value),
    Close(u16, String),
    Pong(Vec<u8>),
    /// The connection ended without a close frame.
    Gone,
}

impl WebSocket {
    pub(crate) fn open(harness: &Harness, name: &str, offset: &str) -> Self {
        Self::on(harness.connect(), name, offset, false)
    }

    pub(crate) fn open_deflated(harness: &Harness, name: &str, offset: &str) -> Self {
        Self::on(harness.connect(), name, offset, true)
    }

    pub(crate) fn on(mut client: Client, name: &str, offset: &str, deflate: bool) -> Self {
        let mut headers = HANDSHAKE.to_vec();
        if deflate {
            headers.push(("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"));
        }
        client.request("GET", &format!("/v1/stream/{name}?offset={offset}"), &headers, b"");
        let head = client.head();
        assert_eq!(head.status, 101, "{head:?} {}", String::from_utf8_lossy(&client.unread));
        assert_eq!(head.get("sec-websocket-accept"), Some(ACCEPT));
        assert_eq!(head.get("sec-websocket-extensions").is_some(), deflate);
        Self { client }
    }

    /// Opens and skips the first message, which only says where the reader stands.
    pub(crate) fn greeted(harness: &Harness, name: &str) -> Self {
        let mut socket = Self::open(harness, name, "now");
        let greeting = socket.json();
        assert!(greeting.get("records").is_none(), "{greeting}");
        socket
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.client.send(frame(TEXT, text.as_bytes()));
    }

    /// The next message of the server; pings are skipped.
    pub(crate) fn message(&mut self) -> Message {
        loop {
            let [first, length] = self.client.take(2)[..] else { return Message::Gone };
            assert_eq!(length & 0x80, 0, "a server does not mask");
            let length = match length {
                126 => self.client.take(2).iter().fold(0, |sum, b| sum << 8 | usize::from(*b)),
                127 => self.client.take(8).iter().fold(0, |sum, b| sum << 8 | usize::from(*b)),
                short => usize::from(short),
            };
            let payload = self.client.take(length);
            if payload.len() < length {
                return Message::Gone;
            }
            return match first {
                TEXT => Message::Json(serde_json::from_slice(&payload).expect("a message is JSON")),
                DEFLATED_TEXT => {
                    let inflated = Inflater::default().inflate(&payload, 64 << 20).expect("it inflates");
                    Message::Json(serde_json::from_slice(&inflated).expect("a message is JSON"))
                }
                CLOSE => {
                    let (code, reason) = payload.split_at_checked(2).expect("we always say a code");
                    let reason = String::from_utf8(reason.to_vec()).expect("a reason is UTF-8");
                    Message::Close(u16::from_be_bytes([code[0], code[1]]), reason)
                }
                PONG => Message::Pong(payload),
                PING => continue,
                other => panic!("the server sends no frame {other:#x}"),
            };
        }
    }

    #[track_caller]
    pub(crate) fn json(&mut self) -> Value {
        match self.message() {
            Message::Json(value) => value,
            other => panic!("{other:?} instead of a message"),
        }
    }

    /// The next answer to something that was sent; records and standing are skipped.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Value {
        loop {
            let message = self.json();
            if message.get("id").is_some() {
                return message;
            }
        }
    }

    /// Skips messages up to the close frame, after which the connection ends.
    #[track_caller]
    pub(crate) fn closed(&mut self, code: u16, reason: &str) {
        loop {
            match self.message() {
                Message::Json(_) | Message::Pong(_) => {}
                close => {
                    assert_eq!(close, Message::Close(code, reason.into()));
                    assert_eq!(self.client.ended(), b"", "nothing follows a close");
                    return;
                }
            }
        }
    }
}

/// A handshake with these headers, and what is answered instead of 101.
pub(crate) fn refused(harness: &Harness, target: &str, headers: &[(&str, &str)]) -> Answer {
    harness.ask("GET", target, headers, b"")
}

/// A masked frame whose first byte is `first`.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len());
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The first bytes of a masked frame that announces so many bytes.
pub(crate) fn header(first: u8, bytes: usize) -> Vec<u8> {
    let mut header = vec![first];
    match u16::try_from(bytes) {
        Ok(short @ 0..=125) => header.push(0x80 | u8::try_from(short).expect("it is in the range")),
        Ok(medium) => {
            header.push(0x80 | 126);
            header.extend(medium.to_be_bytes());
        }
        Err(_) => {
            header.push(0x80 | 127);
            header.extend((bytes as u64).to_be_bytes());
        }
    }
    header.extend(MASK);
    header
}

/// A text message, compressed.
pub(crate) fn deflated(text: &str) -> Vec<u8> {
    frame(DEFLATED_TEXT, &Deflater::default().deflate(text.as_bytes()).expect("it shrinks"))
}

/// The client that is not ours.
pub(crate) fn tungstenite(harness: &Harness, name: &str, offset: &str) -> tungstenite::WebSocket<TcpStream> {
    let url = format!("ws://{}/v1/stream/{name}?offset={offset}", harness.address);
    let (socket, _) = tungstenite::client(url, harness.connect().tcp).expect("the handshake is accepted");
    socket
}
