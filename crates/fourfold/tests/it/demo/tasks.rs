//! Tasks over the wire: progress, a result, the end of the stream; two at once; none is left open by a crash.

use reqwest::{Client, Response};
use serde_json::Value;

use super::{json, started};
use crate::harness::{fourfold, run};

async fn ask(client: &Client, url: &str, body: &'static str) -> Response {
    client.post(format!("{url}/demo/tasks")).body(body).send().await.unwrap()
}

/// The records of a stream until it is closed.
fn records(url: &str, stream: &str) -> Vec<Value> {
    let finished = fourfold(&["tail", stream, "--url", url, "--offset", "-1"]).finish().succeeded();
    finished.lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_task_tells_its_progress_then_its_result_and_closes_its_stream() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let (_demo, url, _) = started(dir.path().to_str().unwrap()).await;
        let answer = ask(&Client::new(), &url, r#"{"megabytes":1}"#).await;
        assert_eq!(answer.status(), 201);
        let location = answer.headers()["location"].to_str().unwrap().to_owned();
        let entry = json(answer).await;
        let stream = entry["stream"].as_str().unwrap();
        assert_eq!(location, format!("/v1/stream/{stream}"));

        let records = records(&url, stream); // Ends only because the stream is closed.
        let numbers: Vec<u64> = records.iter().map(|record| record["n"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=records.len() as u64).collect::<Vec<_>>());
        let progress: Vec<f64> = records.iter().map(|record| record["progress"].as_f64().unwrap()).collect();
        assert!(progress.is_sorted(), "{progress:?}");
        let result = &records.last().unwrap()["result"];
        assert_eq!(result["bytes"], 1_000_000);
        assert_eq!(result["sha256"].as_str().unwrap().len(), 64);
        assert!(result["compressedBytes"].as_u64().unwrap() < 1_000_000);

        let notice =
            fourfold(&["tail", "demo/notices", "--url", &url, "--offset", "-1", "--limit", "1"]).finish().succeeded();
        let notice: Value = serde_json::from_str(&notice.lines[0]).unwrap();
        assert_eq!((notice["kind"].as_str(), notice["task"].as_str()), (Some("task"), entry["task"].as_str()));
    });
}

#[test]
fn the_third_task_at_once_is_refused_and_a_crash_leaves_none_open() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().to_str().unwrap();
        let (demo, url, _) = started(data).await;
        let client = Client::new();
        let first = json(ask(&client, &url, r#"{"megabytes":512}"#).await).await;
        assert_eq!(ask(&client, &url, r#"{"megabytes":512}"#).await.status(), 201);
        let third = ask(&client, &url, "{}").await;
        assert_eq!(third.status(), 429);
        assert_eq!(third.headers()["content-type"], "application/problem+json");
        assert!(third.headers().contains_key("retry-after"));
        assert_eq!(json(third).await["code"], "demo-too-many");
        assert_eq!(ask(&client, &url, r#"{"megabytes":100000}"#).await.status(), 400);

        drop(demo); // kill -9
        let (_demo, url, _) = started(data).await;
        let records = records(&url, first["stream"].as_str().unwrap());
        assert_eq!(records.last().unwrap()["failed"], "the server was stopped meanwhile");
    });
}

#[test]
fn words_in_a_room_become_a_notice() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let (_demo, url, _) = started(dir.path().to_str().unwrap()).await;
        let said = r#"{"id":"1","by":"v","from":"Wren","text":"is the tail up to date?"}"#;
        let request = Client::new().post(format!("{url}/v1/stream/demo/chat/garden"));
        let answer = request.header("content-type", "application/json").body(said).send().await.unwrap();
        assert_eq!(answer.status(), 204);
        let notice =
            fourfold(&["tail", "demo/notices", "--url", &url, "--offset", "-1", "--limit", "1"]).finish().succeeded();
        let notice: Value = serde_json::from_str(&notice.lines[0]).unwrap();
        assert_eq!((&notice["room"], &notice["from"], &notice["n"]), (&"garden".into(), &"Wren".into(), &1.into()));
    });
}
