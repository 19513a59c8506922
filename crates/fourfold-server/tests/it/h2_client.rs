//! A client that speaks HTTP/2, on TLS or without.

use std::{future::Future, net::SocketAddr, time::Duration};

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::{self, SendRequest},
};
use http::{HeaderMap, Request, StatusCode, response::Parts};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

use crate::{
    harness::{Harness, PATIENCE},
    secured::{Certificate, VERSIONS, name, trusting},
};

/// Runs what a client does. Nothing takes so long unless it hangs.
pub(crate) fn run<T>(client: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE * 3, client).await.expect("it hangs") })
}

/// A server that speaks TLS.
pub(crate) fn secured() -> Harness {
    Harness::with(|settings| settings.tls = Some(Certificate::new().tls()))
}

pub(crate) struct H2 {
    pub(crate) send: SendRequest<Bytes>,
    /// Ends with the connection.
    pub(crate) connection: JoinHandle<Result<(), h2::Error>>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// An answer that goes on.
pub(crate) struct Open {
    pub(crate) parts: Parts,
    pub(crate) body: RecvStream,
    unread: Vec<u8>,
}

impl H2 {
    pub(crate) async fn connect(harness: &Harness) -> Self {
        let tcp = TcpStream::connect(harness.listens).await.expect("it listens");
        tcp.set_nodelay(true).expect("a socket option");
        let tls = TlsConnector::from(trusting(&["h2", "http/1.1"], &VERSIONS));
        let tls = tls.connect(name(), tcp).await.expect("they shake hands");
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::on(tls, &client::Builder::new()).await
    }

    /// Without TLS, knowing that the server speaks it.
    pub(crate) async fn plain(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect(address).await.expect("it listens"), &client::Builder::new()).await
    }

    pub(crate) async fn on(
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        builder: &client::Builder,
    ) -> Self {
        let (send, connection) = builder.handshake(io).await.expect("a connection");
        Self { send, connection: tokio::spawn(connection) }
    }

    pub(crate) fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(format!("https://localhost{target}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request")
    }

    /// Asks, and reads the head.
    pub(crate) async fn open(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Open {
        let mut ready = self.send.clone().ready().await.expect("the connection lives");
        let request = Self::request(method, target, headers);
        let (answer, mut stream) = ready.send_request(request, body.is_empty()).expect("it is sent");
        send(&mut stream, body, true).await;
        let (parts, body) = answer.await.expect("an answer").into_parts();
        Open { parts, body, unread: Vec::new() }
    }

    pub(crate) async fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut open = self.open(method, target, headers, body).await;
        let mut body = Vec::new();
        while let Some(piece) = open.piece().await {
            body.extend_from_slice(&piece);
        }
        Answer { status: open.parts.status, headers: open.parts.headers, body }
    }

    pub(crate) async fn sse(&mut self, name: &str, offset: &str) -> Open {
        let open = self.open("GET", &format!("/v1/stream/{name}?offset={offset}&live=sse"), &[], b"").await;
        assert_eq!(open.parts.status, 200);
        open
    }
}

impl Answer {
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {}", self.headers, self.body.escape_ascii());
        self
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers)).to_str().expect("text")
    }
}

impl Open {
    pub(crate) async fn piece(&mut self) -> Option<Bytes> {
        let piece = self.body.data().await?.expect("the stream goes on");
        self.body.flow_control().release_capacity(piece.len()).expect("it was used");
        Some(piece)
    }

    /// Reads until this was said, and gives what came before; panics if the answer ends first.
    pub(crate) async fn until(&mut self, said: &str) -> String {
        let mut looked = 0;
        loop {
            let found = self.unread[looked..].windows(said.len()).position(|bytes| bytes == said.as_bytes());
            if let Some(at) = found.map(|at| at + looked) {
                let rest = self.unread.split_off(at + said.len());
                return String::from_utf8(std::mem::replace(&mut self.unread, rest)).expect("text");
            }
            let piece = self.piece().await;
            let piece = piece.unwrap_or_else(|| panic!("ended without {said}: {}", self.unread.escape_ascii()));
            looked = (self.unread.len() + 1).saturating_sub(said.len());
            self.unread.extend_from_slice(&piece);
        }
    }

    /// All that comes until the end.
    pub(crate) async fn rest(&mut self) -> String {
        while let Some(piece) = self.piece().await {
            self.unread.extend_from_slice(&piece);
        }
        String::from_utf8(std::mem::take(&mut self.unread)).expect("text")
    }
}

/// Sends some of a body, or the rest of it, as the server has room.
pub(crate) async fn send(stream: &mut SendStream<Bytes>, body: &[u8], ends: bool) {
    let mut body = Bytes::copy_from_slice(body);
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.expect("it goes on").expect("room");
        let piece = body.split_to(room.min(body.len()));
        stream.send_data(piece, ends && body.is_empty()).expect("it is taken");
    }
}

/// Lets the connection's own task run.
pub(crate) async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}
