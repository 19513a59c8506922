//! A collector: takes exports over HTTP and keeps what came.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::{harness::DEADLINE, spans::Span};

/// What it does with an export once it has read it.
#[derive(Clone, Copy)]
pub(crate) enum Temper {
    Takes,
    /// Never answers; the connection stays open for as long as the other side wants.
    Hangs,
    Refuses,
}

/// An export as it came.
pub(crate) struct Export {
    /// The request line and the headers.
    pub(crate) head: Vec<String>,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Collector {
    address: SocketAddr,
    is_secure: bool,
    exports: Receiver<Export>,
    hung_up: Receiver<()>,
}

impl Collector {
    pub(crate) fn start(temper: Temper) -> Self {
        Self::start_with(temper, None)
    }

    /// Speaks TLS.
    pub(crate) fn start_secure(tls: ServerConfig) -> Self {
        Self::start_with(Temper::Takes, Some(Arc::new(tls)))
    }

    fn start_with(temper: Temper, tls: Option<Arc<ServerConfig>>) -> Self {
        let is_secure = tls.is_some();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let ((export, exports), (hang_up, hung_up)) = (channel(), channel());
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (export, hang_up) = (export.clone(), hang_up.clone());
                let (socket, tls) = (socket.expect("a connection"), tls.clone());
                thread::spawn(move || match tls {
                    None => converse(socket, temper, &export, &hang_up),
                    Some(tls) => {
                        let session = ServerConnection::new(tls).expect("a session");
                        converse(StreamOwned::new(session, socket), temper, &export, &hang_up);
                    }
                });
            }
        });
        Self { address, is_secure, exports, hung_up }
    }

    /// As `OTEL_EXPORTER_OTLP_ENDPOINT` takes it.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", if self.is_secure { "https" } else { "http" }, self.address)
    }

    /// The next export.
    pub(crate) fn export(&self) -> Export {
        self.exports.recv_timeout(DEADLINE).expect("an export before the deadline")
    }

    /// All that have come. For when the server has ended, and so has sent what it had.
    pub(crate) fn exports(&self) -> Vec<Export> {
        self.exports.try_iter().collect()
    }

    /// The spans in those.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.exports().iter().flat_map(|export| Span::all(&export.body)).collect()
    }

    /// Whether a server has given up waiting for an answer.
    pub(crate) fn was_given_up(&self) -> bool {
        self.hung_up.try_recv().is_ok()
    }
}

fn converse(socket: impl Read + Write, temper: Temper, export: &Sender<Export>, hang_up: &Sender<()>) {
    let mut reader = BufReader::new(socket);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        // Nothing comes, or no TLS: whoever connected has changed its mind.
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let length = head.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.expect("a length")];
    reader.read_exact(&mut body).expect("a body");
    // Nobody listens any more when the test is over.
    let _ = export.send(Export { head, body });
    let answer = match temper {
        Temper::Takes => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        Temper::Refuses => "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
        Temper::Hangs => {
            let _ = reader.read(&mut [0]);
            let _ = hang_up.send(());
            return;
        }
    };
    let socket = reader.get_mut();
    let _ = socket.write_all(answer.as_bytes()).and_then(|()| socket.flush());
}
