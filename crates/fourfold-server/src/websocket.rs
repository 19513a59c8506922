//! A WebSocket on a socket that nobody else holds: the handshake, what the client sends, and writing prebuilt frames.
//!
//! Between messages a connection costs the socket and 16 bytes: it is read into one buffer a thread, inflated by one inflater
//! a thread, and what is written was built before, for all who read it.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use fourfold_protocol::{
    Code, Refusal,
    websocket::{
        self, Agreed, Broken, CloseCode, Deflater, Event, Inflater, Limits, Reader, SharedFrame, handshake::VERSION,
    },
};
use http::{Method, Request, Version, header};
use tokio::net::TcpStream;

use crate::{
    access::{AGREED_SUBPROTOCOL, agreed_subprotocol},
    budget::{self, Taken},
    line::{self, Stalled},
};

/// What is read at once. One a thread.
const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
    static INFLATER: RefCell<Inflater> = RefCell::default();
    static DEFLATER: RefCell<Deflater> = RefCell::default();
}

/// A handshake that can be answered with 101.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// The value of `Sec-WebSocket-Accept`.
    pub accept: String,
    /// The compression that both sides will understand.
    pub agreed: Option<Agreed>,
    /// The subprotocol that both sides will speak.
    pub protocol: Option<&'static str>,
}

impl Handshake {
    /// Whether the request wants to become a WebSocket at all.
    pub fn is_wanted<B>(request: &Request<B>) -> bool {
        names(request, &header::UPGRADE, "websocket")
    }

    /// Checks the request. Spec: RFC 6455, "Reading the Client's Opening Handshake".
    ///
    /// Errors: [`Code::InvalidUpgrade`], [`Code::UpgradeRequired`] for another version.
    pub fn read<B>(request: &Request<B>) -> Result<Self, Refusal> {
        let invalid = |why| Err(Refusal::new(Code::InvalidUpgrade, why));
        if request.method() != Method::GET || request.version() != Version::HTTP_11 {
            return invalid("a WebSocket begins with GET and HTTP/1.1");
        }
        if !names(request, &header::CONNECTION, "upgrade") {
            return invalid("send 'Connection: Upgrade' with 'Upgrade: websocket'");
        }
        let one = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        if one(header::SEC_WEBSOCKET_VERSION) != Some(VERSION) {
            return Err(Refusal::new(Code::UpgradeRequired, format!("send 'Sec-WebSocket-Version: {VERSION}'"))
                .with("secWebSocketVersion", VERSION));
        }
        let Some(accept) = one(header::SEC_WEBSOCKET_KEY).and_then(websocket::accept_key) else {
            return invalid("Sec-WebSocket-Key is 16 bytes in base64");
        };
        let offers = request.headers().get_all(header::SEC_WEBSOCKET_EXTENSIONS);
        let agreed = websocket::negotiate(offers.iter().filter_map(|value| value.to_str().ok()));
        let protocol = agreed_subprotocol(request.headers())?.then_some(AGREED_SUBPROTOCOL);
        Ok(Self { accept, agreed, protocol })
    }
}

/// A WebSocket after its handshake.
#[derive(Debug)]
pub struct Socket {
    socket: crate::socket::Socket,
    reader: Reader,
    agreed: Option<Agreed>,
    /// What was read and not looked at yet.
    unread: Option<Box<Bytes>>,
    /// There while a message has come in part.
    held: Option<Box<Taken>>,
    limits: Limits,
}

impl Socket {
    /// `unread` is what came behind the handshake.
    #[must_use]
    pub fn new(tcp: TcpStream, unread: Bytes, agreed: Option<Agreed>, message_bytes_max: usize) -> Self {
        Self::on(tcp.into(), unread, agreed, message_bytes_max)
    }

    pub(crate) fn on(
        socket: crate::socket::Socket,
        unread: Bytes,
        agreed: Option<Agreed>,
        message_bytes_max: usize,
    ) -> Self {
        let unread = (!unread.is_empty()).then(|| Box::new(unread));
        Self { socket, reader: Reader::new(agreed), agreed, unread, held: None, limits: Limits { message_bytes_max } }
    }

    /// The compression that both sides understand.
    pub(crate) fn agreed(&self) -> Option<Agreed> {
        self.agreed
    }

    /// What the client sent next: a whole message, a control frame, or how it broke the protocol; after that nothing more comes.
    ///
    /// One at a time: what was read behind it stays as it came, so that little input cannot be inflated to much at once.
    /// Cancel-safe. Errors: the client is gone.
    pub async fn event(&mut self) -> io::Result<Result<Event, Broken>> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// As [`event`](Self::event), for those who wait for other things too.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Result<Event, Broken>>> {
        loop {
            if let Some(event) = self.event_at_hand() {
                return Poll::Ready(Ok(event));
            }
            ready!(self.socket.poll_read_ready(cx))?;
            let event = SCRATCH.with_borrow_mut(|scratch| {
                let bytes = match self.socket.try_read(scratch) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(bytes) => bytes,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                    Err(e) => return Err(e),
                };
                let mut input = &scratch[..bytes];
                let event = self.feed(&mut input);
                self.unread = (!input.is_empty()).then(|| Box::new(Bytes::copy_from_slice(input)));
                Ok(event)
            })?;
            if let Some(event) = event {
                return Poll::Ready(Ok(event));
            }
        }
    }

    /// As [`event`](Self::event), but only from what was read already.
    pub(crate) fn event_at_hand(&mut self) -> Option<Result<Event, Broken>> {
        let mut unread = self.unread.take()?;
        let mut input = &unread[..];
        let event = self.feed(&mut input);
        let left = input.len();
        if left > 0 {
            unread.advance(unread.len() - left);
            self.unread = Some(unread);
        }
        event
    }

    /// Writes as much of a frame as fits now, and returns what does not.
    pub(crate) fn write_now(&self, frame: Bytes) -> io::Result<Bytes> {
        line::write_now(&self.socket, frame)
    }

    /// The same, and what does not fit is small. An error is met again by who writes that.
    pub(crate) fn write_some(&self, bytes: &[u8]) -> Box<[u8]> {
        line::write_some(&self.socket, bytes)
    }

    /// Writes a frame that was built before. Errors: the client is gone, or takes nothing for too long (setting `stall-timeout`).
    pub async fn write(&self, frame: impl Into<Bytes>) -> io::Result<()> {
        line::write_all(&self.socket, frame).await
    }

    /// Answers what the protocol itself answers: pings, and the client's close. True after the latter: nothing follows.
    pub async fn answer(&self, event: &Event) -> io::Result<bool> {
        match event {
            Event::Ping(payload) => self.write(websocket::pong(payload)).await.map(|()| false),
            Event::Close(close) => self.write(websocket::close_reply(close.as_ref())).await.map(|()| true),
            _ => Ok(false),
        }
    }

    /// The bytes of a message for this client.
    #[must_use]
    pub fn encode(&self, frame: &SharedFrame) -> Bytes {
        encode(frame, self.agreed)
    }

    /// Leaves last words with the kernel for a client that has stalled; false if it could not understand them.
    pub(crate) fn tell_stalled(&self, stalled: Stalled, words: impl FnOnce() -> Bytes) -> bool {
        stalled.tell(&self.socket, words)
    }

    /// Says why, and ends the connection.
    pub async fn close(self, code: CloseCode) {
        if self.write(websocket::close(code)).await.is_ok() {
            self.hang_up().await;
        }
    }

    /// Ends the connection after the close handshake.
    pub async fn hang_up(self) {
        line::close(self.socket).await;
    }

    fn feed(&mut self, input: &mut &[u8]) -> Option<Result<Event, Broken>> {
        let event = INFLATER.with_borrow_mut(|inflater| self.reader.feed(input, &self.limits, inflater).transpose());
        match self.reader.held() {
            0 => self.held = None,
            bytes if !self.held.get_or_insert_with(|| Box::new(budget::of_bodies())).reach(bytes) => {
                (self.reader, self.held) = (Reader::new(self.agreed), None); // What has come of it is not kept while we say so.
                *input = &[];
                return Some(Err(Broken::NoRoom));
            }
            _ => {}
        }
        event
    }
}

/// The bytes of a message for clients with this agreement.
pub(crate) fn encode(frame: &SharedFrame, agreed: Option<Agreed>) -> Bytes {
    DEFLATER.with_borrow_mut(|deflater| frame.encoded_for(agreed, deflater))
}

fn names<B>(request: &Request<B>, header: &header::HeaderName, word: &str) -> bool {
    let values = request.headers().get_all(header);
    values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|v| v.trim().eq_ignore_ascii_case(word))
}
