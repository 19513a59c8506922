//! The head of a request through the relay: whose it is, what it wants, and how the server should see it.

use std::io;

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpStream,
};

use super::Visitors;

/// The longest head, in bytes: as much as the server reads.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// What it says.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) token: String,
    pub(super) is_websocket: bool,
    pub(super) is_event_stream: bool,
    /// For the server, with what came behind it.
    pub(super) bytes: Vec<u8>,
}

impl Head {
    /// Errors: `InvalidData` if it is no request for a stream through this relay.
    pub(super) async fn read(client: &mut TcpStream) -> io::Result<Self> {
        let (bytes, end) = until_blank_line(client).await?;
        let text = std::str::from_utf8(&bytes[..end]).map_err(|_| io::ErrorKind::InvalidData)?;
        let mut head = Self::parse(text).ok_or(io::ErrorKind::InvalidData)?;
        head.bytes.extend_from_slice(&bytes[end + 4..]);
        Ok(head)
    }

    fn parse(text: &str) -> Option<Self> {
        let (line, headers) = text.split_once("\r\n").unwrap_or((text, ""));
        let (method, rest) = line.split_once(' ')?;
        let (target, version) = rest.split_once(' ')?;
        let (token, path) = target.strip_prefix("/w/")?.split_once('/')?;
        if !Visitors::is_token(token) || !path.starts_with("v1/stream/") {
            return None;
        }
        let mut is_websocket = false;
        let mut is_event_stream = path.contains("live=sse");
        let mut out = format!("{method} /{path} {version}\r\n");
        for header in headers.split("\r\n") {
            let Some((name, value)) = header.split_once(':') else { continue };
            match name.to_ascii_lowercase().as_str() {
                "connection" | "keep-alive" => continue,
                "upgrade" => is_websocket = true,
                "accept" => is_event_stream |= value.contains("text/event-stream"),
                _ => {}
            }
            out.push_str(header);
            out.push_str("\r\n");
        }
        // One request a connection, so that what follows needs no understanding.
        out.push_str(if is_websocket { "Connection: Upgrade\r\n\r\n" } else { "Connection: close\r\n\r\n" });
        Some(Self { token: token.to_owned(), is_websocket, is_event_stream, bytes: out.into_bytes() })
    }
}

/// The beginning of an answer, with its head as the client should see it: behind it the connection ends.
pub(super) async fn answer(server: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let (bytes, end) = until_blank_line(server).await?;
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| io::ErrorKind::InvalidData)?;
    let lines = text.split("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let mut out: String = lines.flat_map(|line| [line, "\r\n"]).collect();
    out.push_str("Connection: close\r\n\r\n");
    let mut out = out.into_bytes();
    out.extend_from_slice(&bytes[end + 4..]);
    Ok(out)
}

/// What was read, and where the blank line is that ends a head.
async fn until_blank_line(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(Vec<u8>, usize)> {
    let mut bytes = Vec::with_capacity(2 << 10);
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            return Ok((bytes, end));
        }
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if from.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_sees_the_request_without_the_token() {
        let head =
            Head::parse("GET /w/t-1/v1/stream/a?offset=-1&live=sse HTTP/1.1\r\nHost: h\r\nConnection: keep-alive")
                .unwrap();
        assert_eq!((head.token.as_str(), head.is_websocket, head.is_event_stream), ("t-1", false, true));
        assert_eq!(
            String::from_utf8(head.bytes).unwrap(),
            "GET /v1/stream/a?offset=-1&live=sse HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        );
        let upgrade =
            Head::parse("GET /w/t/v1/stream/a HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade").unwrap();
        assert!(upgrade.is_websocket && upgrade.bytes.ends_with(b"Connection: Upgrade\r\n\r\n"));
    }

    #[tokio::test]
    async fn the_client_is_told_that_the_connection_ends() {
        let mut answered: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nA: b\r\n\r\nbody";
        let seen = answer(&mut answered).await.unwrap();
        assert_eq!(String::from_utf8(seen).unwrap(), "HTTP/1.1 200 OK\r\nA: b\r\nConnection: close\r\n\r\nbody");
    }

    #[test]
    fn nothing_but_streams_is_relayed() {
        for target in
            ["/", "/v1/stream/a", "/w/t/demo", "/w//v1/stream/a", "/w/t%20/v1/stream/a", "http://h/w/t/v1/stream/a"]
        {
            assert!(Head::parse(&format!("GET {target} HTTP/1.1\r\nHost: h")).is_none(), "{target}");
        }
    }
}
