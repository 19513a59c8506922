//! WebSocket with permessage-deflate, which the independent client cannot do: frames by hand.

use fourfold_protocol::websocket::Inflater;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Cut, Reader, websocket::check_close};

const MESSAGE_BYTES_MAX: usize = 16 << 20;
const HEAD_BYTES_MAX: usize = 16 << 10;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;

pub(super) async fn leg(reader: &mut Reader) -> Result<(), Cut> {
    let mut socket = TcpStream::connect(&reader.target.address).await.map_err(broken)?;
    let request = format!(
        "GET {}?offset={} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n",
        reader.target.path(),
        reader.offset,
        reader.target.address
    );
    socket.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.map_err(broken)?);
        assert!(head.len() < HEAD_BYTES_MAX);
    }
    let head = String::from_utf8(head).expect("heads are ASCII").to_ascii_lowercase();
    if head.starts_with("http/1.1 503") {
        return Err(Cut("the server is not ready".into()));
    }
    assert!(head.starts_with("http/1.1 101") && head.contains("extensions: permessage-deflate"), "{head}");
    assert!(head.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "the key of RFC 6455 has this answer: {head}");
    let mut inflater = Inflater::default();
    while !reader.done() {
        let (first, payload) = frame(&mut socket).await.map_err(broken)?;
        assert_eq!(first & 0xb0, 0x80, "frames are whole, and of no extension that was not agreed on");
        let payload = match first & 0x40 {
            0 => payload,
            _ => inflater.inflate(&payload, MESSAGE_BYTES_MAX).expect("what the server deflates inflates"),
        };
        match first & 0x0f {
            TEXT => reader.message(std::str::from_utf8(&payload).expect("text is UTF-8")),
            PING => {}
            CLOSE => {
                let (code, reason) = payload.split_first_chunk().expect("a close says why");
                check_close(u16::from_be_bytes(*code), std::str::from_utf8(reason).expect("a reason is UTF-8"));
                return Ok(());
            }
            other => panic!("not expected here: opcode {other}"),
        }
    }
    Ok(())
}

/// The first byte and the payload of the next frame.
async fn frame(socket: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let first = socket.read_u8().await?;
    let length = match socket.read_u8().await? {
        short @ ..126 => usize::from(short),
        126 => usize::from(socket.read_u16().await?),
        127 => usize::try_from(socket.read_u64().await?).expect("it fits into memory"),
        _ => panic!("a server does not mask"),
    };
    assert!(length <= MESSAGE_BYTES_MAX);
    let mut payload = vec![0; length];
    socket.read_exact(&mut payload).await?;
    Ok((first, payload))
}

fn broken(error: std::io::Error) -> Cut {
    Cut(error.to_string())
}
