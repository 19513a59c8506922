//! The relay's faults, each over real sockets.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_tungstenite::{connect_async, tungstenite};

use super::{json as told, started};
use crate::{
    harness::{DEADLINE, Running, run},
    reader::http,
};

struct Demo {
    url: String,
    relay: String,
    client: Client,
    _running: Running,
    _dir: TempDir,
}

const VITALS: &str = "v1/stream/demo/vitals";

impl Demo {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (running, url, relay) = started(dir.path().to_str().unwrap()).await;
        let demo = Self { url, relay, client: http(), _running: running, _dir: dir };
        while demo.client.get(format!("{}/{VITALS}?offset=-1&live=long-poll", demo.url)).send().await.unwrap().status()
            != 200
        {}
        demo
    }

    async fn set(&self, token: &str, faults: Value) -> Response {
        self.client.put(format!("{}/demo/network/{token}", self.url)).body(faults.to_string()).send().await.unwrap()
    }

    fn through(&self, token: &str, rest: &str) -> String {
        format!("{}/w/{token}/{VITALS}{rest}", self.relay)
    }

    async fn get(&self, token: &str, rest: &str) -> reqwest::Result<Response> {
        self.client.get(self.through(token, rest)).send().await
    }

    async fn websocket(&self, token: &str) -> Result<Socket, tungstenite::Error> {
        let url = self.through(token, "?offset=-1").replacen("http", "ws", 1);
        Ok(connect_async(url).await?.0)
    }
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn text(socket: &mut Socket) -> Option<String> {
    match timeout(DEADLINE, socket.next()).await.expect("a message or the end") {
        Some(Ok(message)) => Some(message.into_text().unwrap().to_string()),
        _ => None,
    }
}

#[test]
fn in_fair_weather_every_transport_passes() {
    run(async {
        let demo = Demo::start().await;
        let poll = demo.get("t", "?offset=-1").await.unwrap();
        assert_eq!(poll.status(), 200);
        assert!(poll.headers().contains_key("stream-next-offset"));
        assert_eq!(demo.get("t", "?offset=now&live=long-poll").await.unwrap().status(), 200);
        let mut events = demo.get("t", "?offset=-1&live=sse").await.unwrap();
        assert!(timeout(DEADLINE, events.chunk()).await.unwrap().unwrap().is_some());
        let mut socket = demo.websocket("t").await.unwrap();
        assert!(text(&mut socket).await.unwrap().contains("streamNextOffset"));
        let body = r#"{"by":"relay"}"#;
        let post = demo.client.post(format!("{}/w/t/v1/stream/demo/chat/lobby", demo.relay));
        assert_eq!(post.header("content-type", "application/json").body(body).send().await.unwrap().status(), 204);
    });
}

#[test]
fn a_blocked_websocket_is_refused_and_an_open_one_is_cut() {
    run(async {
        let demo = Demo::start().await;
        let mut open = demo.websocket("t").await.unwrap();
        assert!(text(&mut open).await.is_some());
        assert_eq!(demo.set("t", json!({"blockWebsocket": true})).await.status(), 200);
        while text(&mut open).await.is_some() {}
        let refused = demo.websocket("t").await.unwrap_err();
        assert!(matches!(refused, tungstenite::Error::Http(answer) if answer.status() == 403));
        assert!(demo.websocket("another").await.is_ok(), "others have fair weather");
        assert_eq!(demo.get("t", "?offset=-1").await.unwrap().status(), 200);
        demo.set("t", json!({})).await;
        assert!(demo.websocket("t").await.is_ok());
    });
}

#[test]
fn a_buffered_event_stream_says_nothing_until_it_is_let_go() {
    run(async {
        let demo = Demo::start().await;
        demo.set("t", json!({"bufferSse": true})).await;
        let mut answering = std::pin::pin!(demo.get("t", "?offset=-1&live=sse"));
        // Four records a second: each long poll that passes proves that there was something to hold back.
        for _ in 0..3 {
            tokio::select! {
                _ = &mut answering => panic!("the event stream came through"),
                poll = demo.get("t", "?offset=now&live=long-poll") => assert_eq!(poll.unwrap().status(), 200),
            }
        }
        demo.set("t", json!({})).await;
        let mut events = timeout(DEADLINE, answering).await.unwrap().unwrap();
        let first = timeout(DEADLINE, events.chunk()).await.unwrap().unwrap().unwrap();
        assert!(first.starts_with(b"retry: "), "from its beginning");
    });
}

#[test]
fn no_connection_lives_longer_than_a_cut_allows() {
    run(async {
        let demo = Demo::start().await;
        let mut socket = demo.websocket("t").await.unwrap();
        let mut events = demo.get("t", "?offset=-1&live=sse").await.unwrap();
        demo.set("t", json!({"cutEveryMs": 500})).await;
        while text(&mut socket).await.is_some() {}
        // An answer in chunks that breaks off is an error, not an end.
        while timeout(DEADLINE, events.chunk())
            .await
            .unwrap()
            .is_ok_and(|chunk| !chunk.expect("no end, a cut").is_empty())
        {}
        assert_eq!(demo.get("t", "?offset=-1").await.unwrap().status(), 200, "what is quick passes");
    });
}

#[test]
fn latency_holds_an_answer_back_by_its_time() {
    run(async {
        let demo = Demo::start().await;
        demo.set("t", json!({"latencyMs": 400})).await;
        let began = Instant::now();
        assert_eq!(demo.get("t", "?offset=-1&limit=1").await.unwrap().status(), 200);
        assert!(began.elapsed() >= Duration::from_millis(400), "never sooner, however fast the machine is");
    });
}

#[test]
fn offline_cuts_what_is_open_and_answers_nothing() {
    run(async {
        let demo = Demo::start().await;
        let mut socket = demo.websocket("t").await.unwrap();
        demo.set("t", json!({"offline": true})).await;
        while text(&mut socket).await.is_some() {}
        assert!(demo.get("t", "?offset=-1").await.is_err());
        let known = demo.client.get(format!("{}/demo/network/t", demo.url)).send().await.unwrap();
        assert_eq!(told(known).await["offline"], true);
        demo.set("t", json!({})).await;
        assert_eq!(demo.get("t", "?offset=-1").await.unwrap().status(), 200);
    });
}

#[test]
fn a_network_that_cannot_be_is_refused() {
    run(async {
        let demo = Demo::start().await;
        assert_eq!(demo.set("t", json!({"latencyMs": 100_000})).await.status(), 400);
        assert_eq!(demo.set("t", json!({"cutEveryMs": 1})).await.status(), 400);
        assert_eq!(demo.set("t", json!({"rain": true})).await.status(), 400);
        assert_eq!(demo.set("a%20b", json!({})).await.status(), 404);
        assert_eq!(demo.client.delete(format!("{}/demo/network/t", demo.url)).send().await.unwrap().status(), 405);
        let elsewhere = demo.client.get(format!("{}/w/t/demo/config.json", demo.relay)).send().await.unwrap();
        assert_eq!(elsewhere.status(), 404, "only streams are relayed");
    });
}
