//! Tasks over the wire, as calls: progress, a result, the end of the stream; two at once; none is left open by a crash; nothing is left behind.

use reqwest::{Client, Response};
use rustix::process::Signal;
use serde_json::Value;

use super::{json, started};
use crate::{
    harness::{DEADLINE, fourfold, run},
    reader::http,
};

async fn ask(client: &Client, url: &str, body: &'static str) -> Response {
    let request = client.post(format!("{url}/v1/call/demo-pack")).timeout(DEADLINE);
    request.header("content-type", "application/json").body(body).send().await.unwrap()
}

fn id(answer: &Response) -> String {
    answer.headers()["call-id"].to_str().unwrap().to_owned()
}

#[test]
fn a_task_tells_its_progress_then_its_result_and_closes_its_stream() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let (_demo, url, _) = started(dir.path().to_str().unwrap()).await;
        let answer = ask(&http(), &url, r#"{"megabytes":3}"#).await;
        assert_eq!(answer.status(), 201);
        let id = id(&answer);

        let finished = fourfold(&["call", "--resume", &id, "--url", &url]).finish().succeeded();
        let records: Vec<Value> = finished.lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let numbers: Vec<u64> = records.iter().map(|record| record["n"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=records.len() as u64).collect::<Vec<_>>());
        let progress: Vec<f64> = records.iter().map(|record| record["progress"].as_f64().unwrap()).collect();
        assert!(progress.is_sorted(), "{progress:?}");
        let result = &records.last().unwrap()["result"];
        assert_eq!((&result["files"], &result["bytes"]), (&2.into(), &3_000_000.into()));
        assert_eq!(result["sha256"].as_str().unwrap().len(), 64);

        let notice =
            fourfold(&["tail", "demo/notices", "--url", &url, "--offset", "-1", "--limit", "1"]).finish().succeeded();
        let notice: Value = serde_json::from_str(&notice.lines[0]).unwrap();
        assert_eq!((notice["kind"].as_str(), notice["task"].as_str()), (Some("task"), Some(id.as_str())));
        assert!(notice["text"].as_str().unwrap().contains("has packed 3 MB in "), "{notice}");
    });
}

#[test]
fn the_third_task_at_once_is_refused_and_a_crash_leaves_none_open() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().to_str().unwrap();
        let (demo, url, _) = started(data).await;
        let client = http();
        let first = id(&ask(&client, &url, r#"{"megabytes":512}"#).await);
        assert_eq!(ask(&client, &url, r#"{"megabytes":512}"#).await.status(), 201);
        let third = ask(&client, &url, "{}").await;
        assert_eq!(third.status(), 429);
        assert!(third.headers().contains_key("retry-after"));
        assert_eq!(json(third).await["code"], "too-many-calls");

        drop(demo); // kill -9
        let (_demo, url, _) = started(data).await;
        let finished = fourfold(&["call", "--resume", &first, "--url", &url, "--json"]).finish();
        assert_eq!(finished.code, Some(4), "{}", finished.stderr);
        let ending: Value = serde_json::from_str(&finished.stderr).unwrap();
        assert_eq!((&ending["outcome"], &ending["code"]), (&"interrupted".into(), &"killed".into()));
        let answer = ask(&client, &url, r#"{"megabytes":100000}"#).await;
        let finished = fourfold(&["call", "--resume", &id(&answer), "--url", &url]).finish();
        assert!(finished.stderr.contains("  | fourfold: not a wish: "), "{}", finished.stderr);
    });
}

#[test]
fn a_task_that_is_stopped_takes_its_files_away() {
    let temporary = tempfile::tempdir().unwrap();
    let files = || std::fs::read_dir(temporary.path()).unwrap().count();
    let mut pack = crate::harness::fourfold_with(&["pack"], &[("TMPDIR", temporary.path().to_str().unwrap())]);
    drop(pack.stdin()); // The default wish.
    let first: Value = serde_json::from_str(&pack.line()).unwrap();
    assert_eq!((first["phase"].as_str(), files()), (Some("making"), 1));
    pack.signal(Signal::TERM);
    let finished = pack.finish();
    assert_eq!(finished.failed(), "fourfold: stopped");
    assert_eq!(files(), 0);
}

#[test]
fn words_in_a_room_become_a_notice() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let (_demo, url, _) = started(dir.path().to_str().unwrap()).await;
        let said = r#"{"id":"1","by":"v","from":"Wren","text":"is the tail up to date?"}"#;
        let request = http().post(format!("{url}/v1/stream/demo/chat/garden"));
        let answer = request.header("content-type", "application/json").body(said).send().await.unwrap();
        assert_eq!(answer.status(), 204);
        let notice =
            fourfold(&["tail", "demo/notices", "--url", &url, "--offset", "-1", "--limit", "1"]).finish().succeeded();
        let notice: Value = serde_json::from_str(&notice.lines[0]).unwrap();
        assert_eq!((&notice["room"], &notice["from"], &notice["n"]), (&"garden".into(), &"Wren".into(), &1.into()));
    });
}
