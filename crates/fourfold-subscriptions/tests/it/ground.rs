//! Where the facts are tried: subscriptions over a fresh engine, and a webhook that says what the fact wants.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use fourfold_engines::{EmbeddedEngine, EmbeddedOptions, MemoryEngine};
use fourfold_protocol::StreamName;
use fourfold_stream::{Append, Create, Engine, ForkWish, Relay, Retention, Stream};
use fourfold_subscriptions::{ControlRequest, Options, Subscriptions};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{mpsc, oneshot},
};

const DEADLINE: Duration = Duration::from_secs(60);

/// An engine with its subscriptions.
pub(crate) struct Ground {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) subscriptions: Subscriptions,
    dir: Option<tempfile::TempDir>,
    options: Options,
}

impl Ground {
    pub(crate) async fn memory() -> Self {
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new(relay(), Retention::default()));
        Self::over(engine, None, local()).await
    }

    pub(crate) async fn embedded() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path());
        Self::over(engine, Some(dir), local()).await
    }

    pub(crate) async fn trusting(root: Vec<u8>) -> Self {
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new(relay(), Retention::default()));
        Self::over(engine, None, Options { webhook_roots: vec![root], ..local() }).await
    }

    async fn over(engine: Arc<dyn Engine>, dir: Option<tempfile::TempDir>, options: Options) -> Self {
        let subscriptions = Subscriptions::start(Arc::clone(&engine), options.clone()).await.unwrap();
        Self { engine, subscriptions, dir, options }
    }

    /// Ends everything and starts it again on the same directory.
    pub(crate) async fn restarted(self) -> Self {
        let Self { engine, subscriptions, dir, options } = self;
        subscriptions.stop();
        drop(subscriptions);
        assert_eq!(Arc::strong_count(&engine), 1, "nobody holds the engine of a server that has stopped");
        drop(engine);
        let dir = dir.expect("only what is on a disk can be started again");
        let engine = open(dir.path());
        Self::over(engine, Some(dir), options).await
    }

    pub(crate) async fn create(&self, name: &str) -> Arc<Stream> {
        self.create_as(name, None).await
    }

    /// Forks a stream at its tail.
    pub(crate) async fn fork(&self, name: &str, source: &str) -> Arc<Stream> {
        self.create_as(name, Some(ForkWish { from: StreamName::new(source).unwrap(), at: None, sub: 0 })).await
    }

    async fn create_as(&self, name: &str, fork: Option<ForkWish>) -> Arc<Stream> {
        let wish = Create {
            content_type: "application/json".into(),
            ttl_seconds: None,
            expires_at_ms: None,
            retention: Retention::default(),
            records: Vec::new(),
            closed: false,
            fork,
            ..Create::default()
        };
        self.engine.create(&StreamName::new(name).unwrap(), wish).await.unwrap().stream
    }

    /// Appends a record, and answers the tail as a token.
    pub(crate) async fn append(&self, name: &str) -> String {
        let stream = self.engine.open(&StreamName::new(name).unwrap()).await.unwrap();
        let append = Append { records: vec![Bytes::from_static(b"{}")], ..Append::default() };
        let next = self.engine.append(&stream, append).await.unwrap().next;
        stream.offset(next).to_string()
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, token: Option<&str>, body: Value) -> (u16, Value) {
        let request = ControlRequest {
            local: true,
            method: &method,
            path,
            root: "http://here.test/v1/stream/".into(),
            bearer: token,
            body: if body.is_null() { Bytes::new() } else { body.to_string().into() },
        };
        match self.subscriptions.control(request).await {
            Ok(answer) => (answer.status, serde_json::from_str(&answer.body).unwrap_or(Value::Null)),
            Err(refusal) => (refusal.code.status(), refusal.problem()),
        }
    }

    pub(crate) async fn put(&self, id: &str, body: Value) -> (u16, Value) {
        self.ask(Method::PUT, &format!("subscriptions/{id}"), None, body).await
    }

    pub(crate) async fn post(&self, path: &str, token: Option<&str>, body: Value) -> (u16, Value) {
        self.ask(Method::POST, &format!("subscriptions/{path}"), token, body).await
    }

    pub(crate) async fn get(&self, id: &str) -> Value {
        let (status, body) = self.ask(Method::GET, &format!("subscriptions/{id}"), None, Value::Null).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// A webhook subscription on `events/*`.
    pub(crate) async fn hook(&self, id: &str, url: &str, lease_ttl_ms: u64) {
        let body = json!({"type":"webhook","pattern":"events/*","webhook":{"url":url},"lease_ttl_ms":lease_ttl_ms});
        let (status, answer) = self.put(id, body).await;
        assert_eq!(status, 201, "{answer}");
    }

    /// A pull-wake subscription on `events/*` with the wake stream `wake/{id}`.
    pub(crate) async fn pull(&self, id: &str, lease_ttl_ms: u64) {
        let wake_stream = format!("wake/{id}");
        self.create(&wake_stream).await;
        let body =
            json!({"type":"pull-wake","pattern":"events/*","wake_stream":wake_stream,"lease_ttl_ms":lease_ttl_ms});
        let (status, answer) = self.put(id, body).await;
        assert_eq!(status, 201, "{answer}");
    }

    /// Waits until the wake stream has so many events, and answers the last one.
    pub(crate) async fn wake_event(&self, id: &str, count: u64) -> Value {
        let stream = self.engine.open(&StreamName::new(&format!("wake/{id}")).unwrap()).await.unwrap();
        until(async || stream.tail().position >= count).await;
        let all = fourfold_stream::Limit { records: usize::MAX, bytes: usize::MAX };
        let batch = self.engine.read(&stream, count - 1, all).await.unwrap();
        serde_json::from_slice(&batch.records[0].data).unwrap()
    }

    pub(crate) async fn claim(&self, id: &str, worker: &str) -> (u16, Value) {
        self.post(&format!("{id}/claim"), None, json!({ "worker": worker })).await
    }

    /// What a worker says of a wake, with the token it got.
    pub(crate) async fn report(&self, path: &str, wake: &Value, acks: Value, done: bool) -> (u16, Value) {
        let token = wake["token"].as_str().or(wake["callback_token"].as_str());
        let body = json!({"wake_id":wake["wake_id"],"generation":wake["generation"],"acks":acks,"done":done});
        self.post(path, token, body).await
    }

    /// The cursor of a stream.
    pub(crate) async fn acked(&self, id: &str, path: &str) -> Value {
        let view = self.get(id).await;
        let streams = view["streams"].as_array().unwrap();
        streams.iter().find(|link| link["path"] == path).map_or(Value::Null, |link| link["acked_offset"].clone())
    }
}

fn local() -> Options {
    Options { local_webhooks: true, ..Options::default() }
}

fn open(dir: &Path) -> Arc<dyn Engine> {
    Arc::new(EmbeddedEngine::open(dir, EmbeddedOptions::default(), relay()).unwrap())
}

fn relay() -> Relay {
    let (relay, shards) = Relay::new(1);
    shards.into_iter().for_each(|shard| drop(tokio::spawn(shard.run())));
    relay
}

/// Runs a fact with a deadline.
pub(crate) fn run<F: Future<Output = ()>>(fact: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, fact).await.expect("the fact did not come true in time") });
}

/// Waits for something that nobody tells.
pub(crate) async fn until(mut true_now: impl AsyncFnMut() -> bool) {
    while !true_now().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A webhook on loopback. It answers when the fact says so.
pub(crate) struct Receiver {
    pub(crate) url: String,
    calls: mpsc::UnboundedReceiver<Call>,
}

/// A request to it.
pub(crate) struct Call {
    pub(crate) headers: HeaderMap,
    pub(crate) raw: Bytes,
    pub(crate) body: Value,
    answer: oneshot::Sender<Response<Full<Bytes>>>,
}

impl Receiver {
    pub(crate) async fn new() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn on(listener: TcpListener) -> Self {
        let url = format!("http://{}/hook?x=1", listener.local_addr().unwrap());
        let (sender, calls) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, sender.clone()));
            }
        });
        Self { url, calls }
    }

    pub(crate) fn with(url: String, calls: mpsc::UnboundedReceiver<Call>) -> Self {
        Self { url, calls }
    }

    pub(crate) async fn call(&mut self) -> Call {
        self.calls.recv().await.expect("the webhook listens")
    }

    /// Nothing has come that was not taken.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.calls.try_recv().is_err()
    }
}

impl Call {
    pub(crate) fn redirect(self, url: &str) {
        let answer = Response::builder().status(307).header("location", url);
        let _ = self.answer.send(answer.body(Full::default()).unwrap());
    }

    pub(crate) fn answer(self, status: u16, body: &str) -> Value {
        let answer = Response::builder().status(status);
        // Whoever has ended the exchange does not want the answer.
        let _ = self.answer.send(answer.body(Full::new(body.to_owned().into())).unwrap());
        self.body
    }
}

pub(crate) async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin, calls: mpsc::UnboundedSender<Call>) {
    let service = service_fn(|request: Request<Incoming>| {
        let calls = calls.clone();
        async move {
            let (parts, body) = request.into_parts();
            assert_eq!((parts.method, parts.uri.path_and_query().unwrap().as_str()), (Method::POST, "/hook?x=1"));
            let raw = body.collect().await?.to_bytes();
            let body = serde_json::from_slice(&raw).unwrap();
            let (answer, answered) = oneshot::channel();
            // A fact that is over takes no more calls.
            let _ = calls.send(Call { headers: parts.headers, raw, body, answer });
            Ok::<_, hyper::Error>(answered.await.unwrap_or_else(|_| Response::new(Full::default())))
        }
    });
    // A connection that the other side ends is one of the facts.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}
