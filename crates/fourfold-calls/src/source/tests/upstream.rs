//! An HTTP server by hand, which does to its caller what the test tells it to.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// An upstream that serves each connection with the same script.
pub(super) struct Upstream {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    /// `script` gets the connection when the whole request has been read.
    pub(super) async fn new<S, F>(script: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let request = read_request(&mut socket).await.unwrap();
                seen.lock().unwrap().push(request);
                tokio::spawn(script(socket)); // It may fail: the caller may have gone.
            }
        });
        Self { port, requests }
    }

    /// Answers with these bytes and closes.
    pub(super) async fn saying(answer: &'static [u8]) -> Self {
        Self::new(async move |mut socket: TcpStream| socket.write_all(answer).await).await
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// A configuration of it, and more lines.
    pub(super) fn config(&self, more: &str) -> String {
        format!("url = 'http://127.0.0.1:{}/base'\n{more}", self.port)
    }

    /// As they came, head and body.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn read_request(socket: &mut TcpStream) -> io::Result<String> {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Ok(text);
            }
        }
        if socket.read_buf(&mut request).await? == 0 {
            return Ok(text);
        }
    }
}

/// Closes with a RST: what has been sent may not arrive.
pub(super) fn reset(socket: &TcpStream) {
    socket.set_zero_linger().unwrap();
}

/// Waits until the caller has closed its side.
pub(super) async fn closed(socket: &mut TcpStream) {
    let mut rest = [0; 64];
    while matches!(socket.read(&mut rest).await, Ok(1..)) {}
}
