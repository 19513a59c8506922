//! TLS on a socket: rustls without its buffers. What an idle connection holds is the keys, and the beginning of a record if it has come.
//!
//! ```text
//! read   what the kernel has ─ one buffer a shard ─ decrypted there ─ copied to the reader; what is beyond its room, or no whole record, is kept
//! write  what is left of the last record first; then one record of at most 16 KiB is encrypted, in a buffer a shard, and written.
//!        If the kernel does not take all of it, the rest is kept, and its plaintext was not accepted: the writer comes again with it, and it is
//!        accepted when the rest has gone
//! ```
//!
//! So nothing that was accepted is behind, and a client that takes nothing costs one record. Once it is up it does not matter which of TLS 1.2 and
//! 1.3 it is; tickets, alerts and key updates go between records.

use std::{
    cell::RefCell,
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::rustls::{
    self, AlertDescription, ServerConfig,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, UnbufferedStatus},
};

use crate::{limits::TLS_HANDSHAKE_BYTES_MAX, tally::Handshake};

/// A record's plaintext, in bytes: the protocol's own maximum.
const RECORD_BYTES: usize = 16 * 1024;

/// What a record may be longer than that when it is encrypted, in bytes, of what others send.
const RECORD_EXTRA_BYTES: usize = 2048 + 5;

/// What is read at once, in bytes: a few records, behind one whose beginning is there.
const SCRATCH_BYTES: usize = 64 * 1024;

/// The least that is read at once, in bytes, for readers with little room: a record that came whole is mostly in it.
const READ_BYTES_MIN: usize = 2048;

thread_local! {
    static READING: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
    /// Two records: what was to be said between them comes before.
    static WRITING: RefCell<Box<[u8]>> = RefCell::new(vec![0; 2 * (RECORD_BYTES + RECORD_EXTRA_BYTES)].into());
    static GATHERED: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(RECORD_BYTES));
}

/// A socket with TLS on it.
pub(crate) struct TlsSocket {
    tcp: TcpStream,
    /// Locked for a read or a write, which never wait. One task holds the socket, so nobody else is there.
    session: Mutex<Session>,
}

struct Session {
    tls: UnbufferedServerConnection,
    /// The beginning of a record, or of a message in several, whose first ones are decrypted here. rustls remembers where in it they are, so it is
    /// shown to it whatever it is asked for.
    partial: Box<[u8]>,
    /// Decrypted, and not read yet.
    unread: Option<Box<Unread>>,
    unsent: Option<Box<Unsent>>,
    /// So much of what was to be written has gone, and its writer does not know yet.
    accepted: usize,
    ended: Option<Ended>,
    /// The end of our side is said, or at least in `unsent`.
    closing: bool,
}

struct Unread {
    bytes: Vec<u8>,
    read: usize,
}

/// What the kernel did not take yet.
struct Unsent {
    bytes: Vec<u8>,
    sent: usize,
    /// So much plaintext is accepted when all of it is sent.
    accepts: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The client has ended its side.
    Closed,
    /// It does not speak TLS as it should.
    Broken,
    /// It does not trust our certificate.
    Distrusted,
    /// It speaks another TLS than we do.
    Unfit,
}

impl Ended {
    fn by(error: &rustls::Error) -> Self {
        use AlertDescription as Alert;
        match error {
            rustls::Error::AlertReceived(
                Alert::UnknownCA
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown,
            ) => Self::Distrusted,
            rustls::Error::AlertReceived(
                Alert::HandshakeFailure
                | Alert::ProtocolVersion
                | Alert::InsufficientSecurity
                | Alert::NoApplicationProtocol,
            )
            | rustls::Error::PeerIncompatible(_)
            | rustls::Error::NoApplicationProtocol => Self::Unfit,
            _ => Self::Broken,
        }
    }
}

/// Why there is no TLS on a socket.
#[derive(Debug)]
pub(crate) enum NoTls {
    /// It begins as a request without TLS.
    PlainHttp(TcpStream),
    /// The client went, took too long, or does not understand us.
    Failed(Handshake, io::Error),
}

impl From<io::Error> for NoTls {
    fn from(error: io::Error) -> Self {
        let how = match error.kind() {
            io::ErrorKind::TimedOut => Handshake::Late,
            io::ErrorKind::InvalidData | io::ErrorKind::Other => Handshake::Broken,
            _ => Handshake::Gone,
        };
        Self::Failed(how, error)
    }
}

impl fmt::Debug for TlsSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsSocket").field(&self.tcp).finish() // No keys.
    }
}

impl TlsSocket {
    /// Shakes hands, for at most so long, however slowly the client does.
    pub(crate) async fn accept(tcp: TcpStream, config: Arc<ServerConfig>, wait_max: Duration) -> Result<Self, NoTls> {
        timeout(wait_max, Self::shake_hands(tcp, config)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn shake_hands(tcp: TcpStream, config: Arc<ServerConfig>) -> Result<Self, NoTls> {
        let mut first = [0];
        if tcp.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
            return Err(NoTls::PlainHttp(tcp)); // No record begins with a letter, and every method does.
        }
        let tls = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        let mut session = Session {
            tls,
            partial: Box::default(),
            unread: None,
            unsent: None,
            accepted: 0,
            ended: None,
            closing: false,
        };
        match session.shake_hands(&tcp).await {
            Ok(()) => Ok(Self { tcp, session: Mutex::new(session) }),
            Err(error) => Err(match session.ended {
                // What the client has said tells more than that it went afterwards.
                Some(Ended::Distrusted) => NoTls::Failed(Handshake::Distrusted, error),
                Some(Ended::Unfit) => NoTls::Failed(Handshake::Unfit, error),
                Some(Ended::Broken) => NoTls::Failed(Handshake::Broken, error),
                Some(Ended::Closed) => NoTls::Failed(Handshake::Gone, error),
                None => error.into(),
            }),
        }
    }

    /// What the two agreed to speak.
    pub(crate) fn speaks(&self, protocol: &[u8]) -> bool {
        self.session().tls.alpn_protocol() == Some(protocol)
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    pub(crate) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        self.session().read(&self.tcp, into)
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.session().write(&self.tcp, bytes)
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.session().is_readable() { Poll::Ready(Ok(())) } else { self.tcp.poll_read_ready(cx) }
    }

    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_read_ready(cx))?;
            match self.try_read(into.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => {
                    into.advance(read?);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    pub(crate) fn poll_peek(&self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_read_ready(cx))?;
            match self.session().peek(&self.tcp, into.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => {
                    let bytes = read?;
                    into.advance(bytes);
                    return Poll::Ready(Ok(bytes));
                }
            }
        }
    }

    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_writing(cx, |session, tcp| session.write(tcp, bytes))
    }

    /// Several pieces in one record.
    pub(crate) fn poll_write_vectored(&self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        GATHERED.with_borrow_mut(|gathered| {
            gathered.clear();
            for piece in pieces {
                let room = RECORD_BYTES - gathered.len();
                gathered.extend_from_slice(&piece[..piece.len().min(room)]);
            }
            self.poll_write(cx, gathered)
        })
    }

    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_writing(cx, |session, tcp| session.flush(tcp))
    }

    /// Says that nothing more comes, and ends our side of the connection.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_writing(cx, |session, tcp| {
            session.say_the_end();
            session.flush(tcp)
        }))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn poll_writing<T>(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&mut Session, &TcpStream) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            match write(&mut self.session(), &self.tcp) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().expect("nobody panics while it holds a session")
    }
}

impl Session {
    async fn shake_hands(&mut self, tcp: &TcpStream) -> io::Result<()> {
        let mut received = 0;
        loop {
            while let Err(error) = self.flush(tcp) {
                if error.kind() != io::ErrorKind::WouldBlock {
                    return Err(error);
                }
                tcp.writable().await?;
            }
            // First, because a client may have said all that it has to say, and its end.
            if !self.tls.is_handshaking() {
                return Ok(());
            }
            if self.ended.is_some() || received > TLS_HANDSHAKE_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            tcp.readable().await?;
            match self.receive(tcp, &mut []) {
                Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((bytes, _)) => received += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// It cannot go on: nothing more is read or written.
    fn is_broken(&self) -> bool {
        self.ended.is_some_and(|ended| ended != Ended::Closed)
    }

    fn is_readable(&self) -> bool {
        self.unread.is_some() || self.ended.is_some()
    }

    fn read(&mut self, tcp: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(unread) = &mut self.unread {
                let bytes = unread.copy(into);
                unread.read += bytes;
                if unread.read == unread.bytes.len() {
                    self.unread = None;
                }
                return Ok(bytes);
            }
            match self.ended {
                Some(Ended::Closed) => return Ok(0),
                Some(_) => return Err(io::ErrorKind::InvalidData.into()),
                None => {}
            }
            let (_, bytes) = self.receive(tcp, into)?;
            if bytes > 0 {
                return Ok(bytes);
            }
        }
    }

    fn peek(&mut self, tcp: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
        while !self.is_readable() {
            self.receive(tcp, &mut [])?;
        }
        match &self.unread {
            Some(unread) => Ok(unread.copy(into)),
            None => self.read(tcp, into),
        }
    }

    /// Reads from the kernel once, and decrypts. Returns how much was read, and how much plaintext is in `into`; more of it is in `unread`.
    /// Errors: `WouldBlock` if there is nothing.
    fn receive(&mut self, tcp: &TcpStream, into: &mut [u8]) -> io::Result<(usize, usize)> {
        READING.with_borrow_mut(|scratch| {
            let held = self.partial.len();
            let limit = (held + (into.len() + RECORD_EXTRA_BYTES).max(READ_BYTES_MIN)).min(scratch.len());
            let received = tcp.try_read(&mut scratch[held..limit])?;
            if received == 0 {
                self.ended = Some(Ended::Closed);
                return Ok((0, 0));
            }
            scratch[..held].copy_from_slice(&self.partial);
            let (taken, given) = self.process(&mut scratch[..held + received], into);
            let rest = &scratch[taken..held + received];
            if rest.len() > RECORD_BYTES + RECORD_EXTRA_BYTES {
                self.ended = Some(Ended::Broken); // A message in many records, of which there is none that is so long.
                return Err(io::ErrorKind::InvalidData.into());
            }
            if *rest != *self.partial {
                self.partial = rest.into();
            }
            // An alert, tickets, the answer to a key update. If the kernel does not take them now, they go with the next write.
            match self.flush(tcp) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
                Ok(()) | Err(_) => Ok((received, given)),
            }
        })
    }

    /// Takes the records that are whole. Returns how many bytes that were, and how many of plaintext are in `into`.
    fn process(&mut self, mut incoming: &mut [u8], into: &mut [u8]) -> (usize, usize) {
        let (mut taken, mut given) = (0, 0);
        loop {
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(incoming);
            let mut waits = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let Ok(record) = record else {
                            self.ended = Some(Ended::Broken);
                            break;
                        };
                        discard += record.discard;
                        // Behind what is unread already nothing goes ahead.
                        let room = if self.unread.is_some() { 0 } else { record.payload.len().min(into.len() - given) };
                        into[given..given + room].copy_from_slice(&record.payload[..room]);
                        given += room;
                        let beyond = &record.payload[room..];
                        if !beyond.is_empty() {
                            let unread =
                                self.unread.get_or_insert_with(|| Box::new(Unread { bytes: Vec::new(), read: 0 }));
                            unread.bytes.extend_from_slice(beyond);
                        }
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut encode)) => {
                    WRITING.with_borrow_mut(|scratch| match encode.encode(scratch) {
                        Ok(bytes) => put(&mut self.unsent, &scratch[..bytes], 0),
                        Err(_) => self.ended = Some(Ended::Broken), // No record of ours is so long.
                    });
                }
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed) => self.ended = Some(Ended::Closed),
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) | ConnectionState::Closed) => {
                    waits = true;
                }
                Ok(_) => {
                    // Early data was never offered, and nothing else is known.
                    self.ended = Some(Ended::Broken);
                    waits = true;
                }
                Err(error) => {
                    tracing::debug!(%error, "a client's TLS is broken");
                    self.ended = Some(Ended::by(&error));
                }
            }
            taken += discard;
            incoming = &mut std::mem::take(&mut incoming)[discard..];
            if self.is_broken() && (waits || !self.tls.wants_write()) {
                return (taken + incoming.len(), given);
            }
            // If it is broken: once more, for the alert that says so. rustls may still point into what has come, so that goes only afterwards.
            if waits {
                return (taken, given);
            }
        }
    }

    fn write(&mut self, tcp: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.flush(tcp)?;
        let accepted = std::mem::take(&mut self.accepted);
        if accepted > 0 {
            // Whoever comes with less has given up what it had begun: between the two there is half an answer.
            return if accepted <= bytes.len() { Ok(accepted) } else { Err(io::ErrorKind::BrokenPipe.into()) };
        }
        if self.closing || self.is_broken() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let bytes = &bytes[..bytes.len().min(RECORD_BYTES)];
        WRITING.with_borrow_mut(|scratch| {
            let encrypted = match self.tls.process_tls_records(&mut self.partial).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic.encrypt(bytes, scratch),
                _ => return Err(io::ErrorKind::BrokenPipe.into()), // All that was to be said otherwise was taken when it was read.
            };
            let record = &scratch[..encrypted.map_err(|error| io::Error::other(error.to_string()))?];
            let sent = match tcp.try_write(record) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            if sent == record.len() {
                return Ok(bytes.len());
            }
            put(&mut self.unsent, &record[sent..], bytes.len());
            Err(io::ErrorKind::WouldBlock.into())
        })
    }

    /// Sends what is left. Errors: `WouldBlock` if not all of it went.
    fn flush(&mut self, tcp: &TcpStream) -> io::Result<()> {
        let Some(unsent) = &mut self.unsent else { return Ok(()) };
        while unsent.sent < unsent.bytes.len() {
            unsent.sent += tcp.try_write(&unsent.bytes[unsent.sent..])?;
        }
        self.accepted += unsent.accepts;
        self.unsent = None;
        Ok(())
    }

    fn say_the_end(&mut self) {
        if std::mem::replace(&mut self.closing, true) || self.is_broken() {
            return;
        }
        WRITING.with_borrow_mut(|scratch| {
            let said = match self.tls.process_tls_records(&mut self.partial).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic.queue_close_notify(scratch).unwrap_or(0),
                _ => 0,
            };
            if said > 0 {
                put(&mut self.unsent, &scratch[..said], 0);
            }
        });
    }
}

impl Unread {
    fn copy(&self, into: &mut [u8]) -> usize {
        let rest = &self.bytes[self.read..];
        let bytes = rest.len().min(into.len());
        into[..bytes].copy_from_slice(&rest[..bytes]);
        bytes
    }
}

fn put(unsent: &mut Option<Box<Unsent>>, bytes: &[u8], accepts: usize) {
    let unsent = unsent.get_or_insert_with(|| Box::new(Unsent { bytes: Vec::new(), sent: 0, accepts: 0 }));
    unsent.bytes.extend_from_slice(bytes);
    unsent.accepts += accepts;
}
