//! A client that writes and reads HTTP/1.1 byte by byte, and that never waits for ever.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;
use socket2::{Domain, SockRef, Socket, Type};

use crate::harness::PATIENCE;

pub(crate) struct Client {
    pub(crate) tcp: TcpStream,
    /// Read, but not yet asked for.
    pub(crate) unread: Vec<u8>,
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect_timeout(&address, PATIENCE).expect("the server listens"))
    }

    /// With a small receive buffer: what it does not read, the server soon cannot send.
    pub(crate) fn connect_narrow(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(8 * 1024).expect("before it connects");
        socket.connect_timeout(&address.into(), PATIENCE).expect("the server listens");
        Self::over(socket.into())
    }

    /// From another address of this machine.
    pub(crate) fn connect_from(from: &str, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let from: SocketAddr = format!("{from}:0").parse().expect("an address");
        socket.bind(&from.into()).expect("all of 127.0.0.0/8 is ours");
        socket.connect_timeout(&address.into(), PATIENCE).expect("the server listens");
        Self::over(socket.into())
    }

    pub(crate) fn over(tcp: TcpStream) -> Self {
        tcp.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        tcp.set_write_timeout(Some(PATIENCE)).expect("a deadline");
        tcp.set_nodelay(true).expect("pieces go as they are");
        Self { tcp, unread: Vec::new() }
    }

    /// Writes bytes as they are. Whoever was refused midway may find the connection closed.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.tcp.write_all(bytes.as_ref());
    }

    pub(crate) fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut bytes = format!("{method} {target} HTTP/1.1\r\nhost: test\r\n").into_bytes();
        for (name, value) in headers {
            bytes.extend(format!("{name}: {value}\r\n").into_bytes());
        }
        if !body.is_empty() || matches!(method, "PUT" | "POST") {
            bytes.extend(format!("content-length: {}\r\n", body.len()).into_bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(body);
        self.send(bytes);
    }

    /// Waits until an answer has begun, and takes nothing of it.
    pub(crate) fn is_answered(&self) {
        assert_eq!(self.tcp.peek(&mut [0]).expect("an answer in time"), 1);
    }

    pub(crate) fn half_close(&self) {
        self.tcp.shutdown(Shutdown::Write).expect("it was open");
    }

    /// Vanishes without a goodbye: the peer gets a reset.
    pub(crate) fn vanish(self) {
        SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO)).expect("a socket option");
    }

    /// Reads more; 0 at the end, also if it is a reset.
    pub(crate) fn fill(&mut self) -> usize {
        let mut piece = [0; 64 * 1024];
        match self.tcp.read(&mut piece) {
            Ok(bytes) => {
                self.unread.extend_from_slice(&piece[..bytes]);
                bytes
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => 0,
            Err(e) => {
                let last = &self.unread[self.unread.len().saturating_sub(1024)..];
                panic!("nothing came: {e}; the last of what is unread: {:?}", String::from_utf8_lossy(last))
            }
        }
    }

    /// What stands before `end`, which is dropped; `None` if the connection ends before.
    pub(crate) fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.unread[searched..].windows(end.len()).position(|w| w == end) {
                let mut piece: Vec<u8> = self.unread.drain(..searched + at + end.len()).collect();
                piece.truncate(searched + at);
                return Some(piece);
            }
            searched = self.unread.len().saturating_sub(end.len());
            if self.fill() == 0 {
                return None;
            }
        }
    }

    /// Exactly so many bytes; fewer if the connection ends before.
    pub(crate) fn take(&mut self, bytes: usize) -> Vec<u8> {
        while self.unread.len() < bytes && self.fill() > 0 {}
        self.unread.drain(..bytes.min(self.unread.len())).collect()
    }

    pub(crate) fn head(&mut self) -> Head {
        let head = self.until(b"\r\n\r\n").expect("an answer before the end of the connection");
        Head::parse(&String::from_utf8(head).expect("a head is ASCII"))
    }

    /// The next answer; interim ones are skipped.
    pub(crate) fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    pub(crate) fn answer_to(&mut self, method: &str) -> Answer {
        let mut head = self.head();
        while head.status == 100 {
            head = self.head();
        }
        let body = if method == "HEAD" || matches!(head.status, 204 | 304) {
            Vec::new()
        } else if head.get("transfer-encoding") == Some("chunked") {
            std::iter::from_fn(|| self.chunk()).flatten().collect()
        } else if let Some(bytes) = head.get("content-length") {
            let bytes = bytes.parse().expect("a length");
            let body = self.take(bytes);
            assert_eq!(body.len(), bytes, "the body was cut");
            body
        } else {
            while self.fill() > 0 {}
            std::mem::take(&mut self.unread)
        };
        Answer { head, body }
    }

    /// The next chunk of a chunked body; `None` behind the last.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = self.until(b"\r\n").expect("a chunk before the end of the connection");
        let length = std::str::from_utf8(&length).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
        let chunk = self.take(length.expect("a chunk begins with its length"));
        assert_eq!(self.take(2), b"\r\n", "a chunk ends with CR LF");
        (!chunk.is_empty()).then_some(chunk)
    }

    /// Waits until the server has closed the connection, and tells what it said before.
    pub(crate) fn ended(&mut self) -> Vec<u8> {
        while self.fill() > 0 {}
        std::mem::take(&mut self.unread)
    }
}

impl Head {
    fn parse(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let status = lines.next().expect("split gives one").strip_prefix("HTTP/1.");
        let status = status.and_then(|line| line.get(2..5)?.parse().ok()).expect("a status line");
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').expect("a header has a colon");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Self { status, headers: headers.collect() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice");
        value
    }
}

impl Answer {
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.head.status, status, "{}", self.text());
        self
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.get(name).unwrap_or_else(|| panic!("{name} is missing in {:?}", self.head))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {}", self.text()))
    }

    /// The answer is this problem, told as problems are; gives its JSON.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.head.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.header("cache-control"), "no-store");
        assert_eq!(self.header("x-content-type-options"), "nosniff");
        assert_eq!(self.header("access-control-allow-origin"), "*");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        for member in ["type", "title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member} in {problem}");
        }
        assert!(problem["retry"].is_boolean(), "{problem}");
        problem
    }
}
