//! A real full disk, a small filesystem of its own: appends are refused and nothing else, until there is room.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use futures_util::{SinkExt, StreamExt};
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_tungstenite::{connect_async, tungstenite::Message};

use crate::{
    harness::{DEADLINE, Server, run},
    reader::{Reader, Target, WAYS, Way, answer, header, http, position},
    records::Kind,
    writer::create,
};

/// Mounted for one test, unmounted in the end: whatever lives on it must have ended by then.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None`, and a word about it, where mounting is not allowed.
    fn mounted(mib: u32) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let size = format!("size={mib}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            other => {
                eprintln!("SKIPPED: a full disk cannot be tried here, mounting is not allowed: {other:?}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

/// A file that fills the disk.
fn take_the_rest(disk: &SmallDisk) -> PathBuf {
    let path = disk.path().join("rest");
    let mut file = File::create(&path).expect("a name needs no room");
    for bytes in [1 << 20, 1 << 12] {
        while file.write_all(&vec![1; bytes]).is_ok() {}
    }
    path
}

/// Large ones, so that the disk is full soon.
fn record(n: usize) -> String {
    format!(r#"{{"n":{n},"text":"{}"}}"#, "x".repeat(200_000 + n))
}

/// The refusal's body, if it was one.
async fn append(http: &reqwest::Client, target: &Target, n: usize) -> Result<(), serde_json::Value> {
    let post = http.post(target.url()).header("Content-Type", target.kind.content_type()).body(record(n));
    let answer = answer(post, &[204, 507]).await.expect("the server is there");
    match answer.status().as_u16() {
        204 => {
            let next = header(&answer, "Stream-Next-Offset").expect("an ack has an offset");
            assert_eq!(position(next), n + 1);
            Ok(())
        }
        _ => Err(serde_json::from_str(&answer.text().await.expect("a body")).expect("a problem")),
    }
}

/// Everything that was acknowledged, to the letter, in each of these ways.
async fn all_is_there(target: &Target, acknowledged: usize, ways: &[Way]) {
    for &way in ways {
        let reader = timeout(DEADLINE, Reader::read(target, way, acknowledged)).await;
        let reader = reader.unwrap_or_else(|_| panic!("{way:?} does not get to the end"));
        assert_eq!(reader.records.len(), acknowledged, "{way:?}");
        for (n, came) in reader.records.iter().enumerate() {
            assert!(*came == record(n), "{way:?}: record {n}");
        }
    }
    let head = answer(http().head(target.url()), &[200]).await.expect("it is up");
    assert_eq!(position(header(&head, "Stream-Next-Offset").expect("a tail")), acknowledged);
}

#[test]
fn a_full_disk_refuses_appends_and_loses_nothing() {
    let Some(disk) = SmallDisk::mounted(112) else { return };
    let filler = disk.path().join("filler");
    fs::write(&filler, vec![1; 56 << 20]).expect("there is room");
    let dir = tempfile::tempdir_in(disk.path()).expect("there is room");
    let mut server = Server::start_in(dir, "127.0.0.1:0", &[]);
    let target = Target { address: server.address(), stream: "full".into(), kind: Kind::Json };
    run(async {
        let http = http();
        create(&target).await;
        let mut acknowledged = 0;
        let refusal = loop {
            match append(&http, &target, acknowledged).await {
                Ok(()) => acknowledged += 1,
                Err(refusal) => break refusal,
            }
        };
        eprintln!("{acknowledged} records of 200 kB were taken, then: {refusal}");
        assert!(acknowledged > 10, "{acknowledged}");
        assert_eq!((&refusal["code"], &refusal["retry"]), (&"storage-full".into(), &true.into()), "{refusal}");
        all_is_there(&target, acknowledged, &[Way::Sse]).await;

        // Somebody else takes the rest, to the last byte: small appends are refused too, and their connection goes on.
        let rest = take_the_rest(&disk);
        assert_eq!(over_websocket(&target, &["1", "2"]).await, ["storage-full", "storage-full"]);
        let health = |of| http.get(format!("http://{}/health/{of}", server.operator())).send();
        let ready = health("ready").await.expect("it answers");
        assert_eq!(ready.status(), 503);
        let problem: serde_json::Value = serde_json::from_str(&ready.text().await.expect("a body")).expect("a problem");
        assert_eq!(problem["code"], "storage-full", "{problem}");
        assert_eq!(health("live").await.expect("it answers").status(), 200, "a restart would not help");
        all_is_there(&target, acknowledged, &WAYS).await;
        server.kill();
        fs::remove_file(&rest).expect("it is there");
        server.restart();
        all_is_there(&target, acknowledged, &[Way::ShortPoll]).await;
        let rest = take_the_rest(&disk);
        assert_eq!(over_websocket(&target, &["1"]).await, ["storage-full"]);

        fs::remove_file(&rest).expect("it is there");
        fs::remove_file(&filler).expect("it is there");
        for _ in 0..5 {
            append(&http, &target, acknowledged).await.expect("there is room again, without a restart");
            acknowledged += 1;
        }
        all_is_there(&target, acknowledged, &[Way::WebSocket]).await;
        server.kill();
        server.restart();
        all_is_there(&target, acknowledged, &WAYS).await;
        append(&http, &target, acknowledged).await.expect("there is room");
    });
}

/// The codes with which these appends of one connection were refused.
async fn over_websocket(target: &Target, records: &[&str]) -> Vec<String> {
    let url = format!("{}?offset=now", target.url().replacen("http", "ws", 1));
    let (mut socket, _) = connect_async(url).await.expect("it is up");
    for record in records {
        let append = format!(r#"{{"append":[{record}],"id":0}}"#);
        socket.send(Message::text(append)).await.expect("it is connected");
    }
    let mut codes = Vec::new();
    while codes.len() < records.len() {
        let next = timeout(DEADLINE, socket.next()).await.expect("in time");
        let text = next.expect("it stays").expect("it stays").into_text().expect("text");
        let message: serde_json::Value = serde_json::from_str(text.as_str()).expect("JSON");
        if let Some(code) = message["error"]["code"].as_str() {
            codes.push(code.to_owned());
        }
        assert!(message.get("ack").is_none(), "{message}");
    }
    codes
}
