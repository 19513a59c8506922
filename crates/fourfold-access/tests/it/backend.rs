//! A backend on loopback that counts what it is asked, and answers as it is told.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};

/// Ends with this.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

pub(crate) struct Shared {
    answer: Mutex<Vec<u8>>,
    asked: AtomicUsize,
    seen: Mutex<Vec<String>>,
    came: Notify,
    /// While this is false nobody is answered.
    answers: watch::Sender<bool>,
}

impl Backend {
    pub(crate) async fn start(answer: impl Into<Vec<u8>>) -> Self {
        Self::listen("127.0.0.1:0".parse().unwrap(), answer, None).await
    }

    /// At an address where nobody listens any more.
    pub(crate) async fn again(address: SocketAddr, answer: impl Into<Vec<u8>>) -> Self {
        Self::listen(address, answer, None).await
    }

    /// Over TLS; returns whom to trust.
    pub(crate) async fn secure(answer: impl Into<Vec<u8>>) -> (Self, CertificateDer<'static>) {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        (Self::listen("127.0.0.1:0".parse().unwrap(), answer, Some(acceptor)).await, authority)
    }

    async fn listen(address: SocketAddr, answer: impl Into<Vec<u8>>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            answer: Mutex::new(answer.into()),
            asked: AtomicUsize::new(0),
            seen: Mutex::default(),
            came: Notify::new(),
            answers: watch::Sender::new(true),
        });
        let of_task = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut all = tokio::task::JoinSet::new(); // Ends with the backend.
            loop {
                let Ok((socket, _)) = listener.accept().await else { return };
                let (shared, tls) = (Arc::clone(&of_task), tls.clone());
                all.spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                answer_one(socket, &shared).await;
                            }
                        }
                        None => answer_one(socket, &shared).await,
                    }
                });
            }
        });
        Self { address, shared, task }
    }

    pub(crate) fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// What was asked, whole requests.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub(crate) fn answers(&self, answer: impl Into<Vec<u8>>) {
        *self.shared.answer.lock().unwrap() = answer.into();
    }

    /// Keeps everybody waiting, or lets them go on.
    pub(crate) fn pause(&self, paused: bool) {
        self.shared.answers.send_replace(!paused);
    }

    /// Until so many have asked.
    pub(crate) async fn until_asked(&self, times: usize) {
        loop {
            let came = self.shared.came.notified();
            if self.asked() >= times {
                return;
            }
            came.await;
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer_one(mut socket: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let Ok(count @ 1..) = socket.read(&mut buffer).await else { return };
        request.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            break;
        }
    }
    shared.seen.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
    shared.asked.fetch_add(1, Ordering::SeqCst);
    shared.came.notify_waiters();
    let _ = shared.answers.subscribe().wait_for(|answers| *answers).await;
    let answer = shared.answer.lock().unwrap().clone();
    let _ = socket.write_all(&answer).await;
    let _ = socket.shutdown().await;
}

/// An answer with a body of JSON.
pub(crate) fn json(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
