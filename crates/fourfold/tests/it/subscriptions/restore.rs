//! Subscriptions through a backup and a restore: cursors, leases and keys are those of the backup, and every worker goes on from what it has in hand.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Http, run};
use crate::{
    backup::{backup, restored_in_place},
    calls::upstream::{Step, Upstream},
    harness::Server,
    kill::free_address,
    reader::{answer, header, http},
    seeded::{Seeded, fresh_seed},
};

/// A server with `events/a`, whose place another one can take.
async fn start() -> Server {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start_in(dir, &free_address(&mut Seeded::new(fresh_seed())), &[]);
    create(&server, "events/a").await;
    server
}

async fn create(server: &Server, stream: &str) {
    assert_eq!(Http::of(server).ask(Method::PUT, stream, None, json!([])).await.0, 201);
}

/// Subscribes `s` to `events/*` by pull-wake, and appends a record. Returns the tail behind that, and the offset behind the wake event.
async fn woken(server: &Server) -> (String, String) {
    create(server, "wake/pool").await;
    let wish = json!({"type":"pull-wake","pattern":"events/*","wake_stream":"wake/pool","lease_ttl_ms":LEASE_MS});
    assert_eq!(Http::of(server).ask(Method::PUT, "__ds/subscriptions/s", None, wish).await.0, 201);
    let first = append(server, 1).await;
    let (_, from) = read(server, "wake/pool", "-1").await;
    is_told(server).await;
    (first, from)
}

/// A wake event can be read a little before it is kept that it was told; a kill in between tells it twice. A look at the subscription waits for that.
async fn is_told(server: &Server) {
    acked(server).await;
}

/// So long that none ends by itself.
const LEASE_MS: u64 = 600_000;

/// Appends a number to `events/a`; the tail behind it.
async fn append(server: &Server, n: u64) -> String {
    let post = http().post(format!("{}/v1/stream/events/a", server.url()));
    let post = post.header("Content-Type", "application/json").body(n.to_string());
    let answer = answer(post, &[204]).await.expect("it is up");
    header(&answer, "Stream-Next-Offset").expect("an offset").to_owned()
}

/// What is behind an offset as soon as something is, and the next offset.
async fn read(server: &Server, stream: &str, from: &str) -> (Value, String) {
    let get = http().get(format!("{}/v1/stream/{stream}?offset={from}&live=long-poll&timeout=30", server.url()));
    let answer = answer(get, &[200]).await.expect("it is up");
    let next = header(&answer, "Stream-Next-Offset").expect("an offset").to_owned();
    (serde_json::from_str(&answer.text().await.expect("a whole answer")).expect("JSON"), next)
}

/// The `n`th wake that a webhook was sent.
async fn sent(hook: &Upstream, n: usize) -> Value {
    serde_json::from_slice(&hook.request(n).await.body).expect("JSON")
}

async fn claim(server: &Server) -> (u16, Value) {
    Http::of(server).ask(Method::POST, "__ds/subscriptions/s/claim", None, json!({"worker":"w"})).await
}

/// A worker has done its work on a wake, up to this offset.
async fn done(server: &Server, wake: &Value, offset: &str) -> (u16, Value) {
    let http = Http::of(server);
    let report = json!({
        "wake_id": wake["wake_id"],
        "generation": wake["generation"],
        "acks": [{"stream":"events/a","offset":offset}],
        "done": true,
    });
    let (path, token) = match wake["callback_url"].as_str() {
        Some(url) => {
            (url.strip_prefix(&http.root).expect("it leads to where the server was created"), "callback_token")
        }
        None => ("__ds/subscriptions/s/ack", "token"),
    };
    http.ask(Method::POST, path, wake[token].as_str(), report).await
}

async fn acked(server: &Server) -> String {
    let (_, view) = Http::of(server).ask(Method::GET, "__ds/subscriptions/s", None, Value::Null).await;
    view["streams"][0]["acked_offset"].as_str().expect("an offset").to_owned()
}

/// What the answer to a report is if nothing is left to do.
fn all_done() -> (u16, Value) {
    (200, json!({"ok":true,"next_wake":false}))
}

#[test]
fn a_restore_brings_back_a_webhooks_cursors_its_lease_and_the_keys() {
    // Each wake is answered at once, and its work reported later.
    let later = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let hook = Upstream::start(|_| vec![Step::Say(later.to_vec())]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup");
    run(async {
        let mut server = start().await;
        let wish =
            json!({"type":"webhook","pattern":"events/*","webhook":{"url":hook.url("hook")},"lease_ttl_ms":LEASE_MS});
        let put = async |server: &Server| {
            Http::of(server).ask(Method::PUT, "__ds/subscriptions/s", None, wish.clone()).await.0
        };
        let keys = async |server: &Server| Http::of(server).ask(Method::GET, "__ds/jwks.json", None, Value::Null).await;
        assert_eq!(put(&server).await, 201);
        let first = append(&server, 1).await;
        assert_eq!(done(&server, &sent(&hook, 1).await, &first).await, all_done());
        let second = append(&server, 2).await;
        let held = sent(&hook, 2).await;
        let signed_with = keys(&server).await;
        backup(&server, &file).succeeded();
        // All of this will be lost: the report, a record, and the wake for it.
        assert_eq!(done(&server, &held, &second).await, all_done());
        let third = append(&server, 3).await;
        let lost = sent(&hook, 3).await;

        let server = restored_in_place(&mut server, &file);
        assert_eq!(keys(&server).await, signed_with);
        assert_eq!(put(&server).await, 200, "it is the same subscription");
        assert_eq!(acked(&server).await, first);
        assert_eq!(done(&server, &lost, &third).await.0, 409);
        // The worker has the lease that it had, and what it has read is there.
        assert_eq!(done(&server, &held, &second).await, all_done());
        let fourth = append(&server, 4).await;
        let wake = sent(&hook, 4).await;
        assert_eq!(wake["generation"], lost["generation"]);
        let fenced = done(&server, &lost, &third).await;
        assert_eq!(
            (fenced.0, &fenced.1["code"]),
            (409, &json!("fenced")),
            "a lost wake of the same number is another one"
        );
        let from = wake["streams"][0]["acked_offset"].as_str().expect("an offset");
        assert_eq!(read(&server, "events/a", from).await, (json!([4]), fourth.clone()));
        assert_eq!(done(&server, &wake, &fourth).await, all_done());
        assert_eq!(acked(&server).await, fourth);
    });
}

/// It was, for each stream: the cursor's epoch was older than that of the tail, though no record was in between. And who acked none was woken again.
#[test]
fn a_worker_that_has_done_everything_is_not_woken_by_a_restore() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup");
    run(async {
        let mut server = start().await;
        let (first, from) = woken(&server).await;
        assert_eq!(done(&server, &claim(&server).await.1, &first).await, all_done());
        backup(&server, &file).succeeded();

        let server = restored_in_place(&mut server, &file);
        let (status, nothing) = claim(&server).await;
        assert_eq!((status, &nothing["code"]), (409, &json!("nothing-pending")));
        let second = append(&server, 2).await;
        let (events, _) = read(&server, "wake/pool", &from).await;
        assert_eq!((events.as_array().map(Vec::len), &events[0]["generation"]), (Some(1), &json!(2)));
        let (_, wake) = claim(&server).await;
        let from = wake["streams"][0]["acked_offset"].as_str().expect("an offset");
        assert_eq!(read(&server, "events/a", from).await.0, json!([2]));
        assert_eq!(done(&server, &wake, &second).await, all_done());
    });
}

/// It was not: its event was in the wake stream, so nobody wrote another one, and its worker, which had read that, waited for the next.
#[test]
fn a_wake_that_was_claimed_after_the_backup_is_told_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup");
    run(async {
        let mut server = start().await;
        let (first, from) = woken(&server).await;
        backup(&server, &file).succeeded();
        assert_eq!(done(&server, &claim(&server).await.1, &first).await, all_done());

        let mut server = restored_in_place(&mut server, &file);
        let (events, from) = read(&server, "wake/pool", &from).await;
        assert_eq!(events[0]["generation"], 1);
        is_told(&server).await;
        server.kill();
        server.restart();
        let (_, wake) = claim(&server).await;
        let unread = wake["streams"][0]["acked_offset"].as_str().expect("an offset");
        assert_eq!(read(&server, "events/a", unread).await.0, json!([1]));
        assert_eq!(done(&server, &wake, &first).await, all_done());
        append(&server, 2).await;
        let (events, _) = read(&server, "wake/pool", &from).await;
        assert_eq!((events.as_array().map(Vec::len), &events[0]["generation"]), (Some(1), &json!(2)), "told once");
    });
}
