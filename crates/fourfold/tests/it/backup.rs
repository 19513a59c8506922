//! Backup and restore as an operator does them: of a server under load, of one that is killed, of a directory that rests.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixListener,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    harness::{Finished, Server, fourfold, numbered, run},
    reader::{Reader, Target, Way, answer, header, http, position},
    records::Kind,
    seeded::{Seeded, fresh_seed},
    writer::{Account, Enough, Fate, create, plain, producer},
};

/// Takes one of a server, into a file.
pub(crate) fn backup(server: &Server, to: &Path) -> Finished {
    let (dir, to) = (server.data_dir(), to.to_str().expect("UTF-8"));
    fourfold(&["backup", "--data-dir", &dir, "--to", to]).finish()
}

/// A server on what the backup holds.
fn restored(file: &Path) -> Server {
    restored_at(file, "127.0.0.1:0", &[])
}

/// The same in the place of the one that is lost: at its address, with its settings.
pub(crate) fn restored_in_place(lost: &mut Server, file: &Path) -> Server {
    lost.kill();
    restored_at(file, &lost.address(), &lost.settings())
}

fn restored_at(file: &Path, listen: &str, settings: &[&str]) -> Server {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (data, file) = (dir.path().join("data"), file.to_str().expect("UTF-8"));
    let done = fourfold(&["restore", file, "--data-dir", data.to_str().expect("UTF-8")]).finish().succeeded();
    assert!(done.stderr.starts_with("fourfold: restored "), "{}", done.stderr);
    Server::start_in(dir, listen, settings)
}

async fn ask(
    server: &Server,
    method: &str,
    stream: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, reqwest::Response) {
    let method = method.parse().expect("a method");
    let mut request = http().request(method, format!("{}/v1/stream/{stream}", server.url())).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.expect("the server answers");
    (answer.status().as_u16(), answer)
}

/// What was acknowledged so far.
async fn tail(target: &Target) -> usize {
    let head = answer(http().head(target.url()), &[200]).await.expect("it is up");
    position(header(&head, "Stream-Next-Offset").expect("an offset"))
}

#[test]
fn a_backup_under_load_has_all_that_was_acknowledged_before_it_in_order_and_once() {
    let server = Server::start();
    let mut chance = Seeded::new(fresh_seed());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup");
    let target = |stream: &str, kind| Target { address: server.address(), stream: stream.into(), kind };
    let targets = [target("load/json", Kind::Json), target("load/text", Kind::Text)];
    let (enough, alone) = (Enough::default(), Enough::default());
    let writers = {
        let (targets, enough, alone) = (targets.clone(), enough.clone(), alone.clone());
        thread::spawn(move || {
            run(async move {
                for target in &targets {
                    create(target).await;
                }
                let [json, text] = targets;
                tokio::join!(
                    producer(json.clone(), "producer", chance.branch(), alone),
                    plain(json, "plain", chance.branch(), enough.clone()),
                    plain(text, "text", chance.branch(), enough),
                )
            })
        })
    };
    run(async {
        // Until something is there of each.
        for target in &targets {
            while answer(http().head(target.url()), &[200, 404]).await.unwrap().status() != 200
                || tail(target).await < 20
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        ask(&server, "PUT", "fork", &[("Stream-Forked-From", "/v1/stream/load/text")], "").await;
        ask(&server, "PUT", "gone", &[("Content-Type", "text/plain")], "x").await;
        assert_eq!(ask(&server, "DELETE", "gone", &[], "").await.0, 204);
        ask(&server, "PUT", "closed", &[("Content-Type", "text/plain"), ("Stream-Closed", "true")], "end").await;
    });
    let before = run(async { [tail(&targets[0]).await, tail(&targets[1]).await] });
    backup(&server, &file).succeeded();
    let after = run(async { [tail(&targets[0]).await, tail(&targets[1]).await] });
    assert!(before[0] < after[0], "appends went on meanwhile: {before:?} {after:?}");
    enough.say();
    alone.say();
    let (produced, plain, text) = writers.join().expect("the writers do not panic");
    let full = run(async {
        let mut full = Vec::new();
        for target in &targets {
            let wanted = tail(target).await;
            full.push(Reader::read(target, Way::ShortPoll, wanted).await.records);
        }
        full
    });
    drop(server);
    let again = restored(&file);
    run(async {
        for ((target, full), (before, after)) in targets.iter().zip(full).zip(before.into_iter().zip(after)) {
            let target = Target { address: again.address(), ..target.clone() };
            let kept = tail(&target).await;
            assert!((before..=after).contains(&kept), "{}: {before} to {after}, but {kept}", target.stream);
            for way in [Way::ShortPoll, Way::Sse, Way::WebSocket] {
                let records = Reader::read(&target, way, kept).await.records;
                assert!(records == full[..kept], "{way:?}: a prefix of what was there");
            }
        }
        // The producer goes on where the backup stands: what it knows is a duplicate, what it lost is told as missing.
        let json = Target { address: again.address(), ..targets[0].clone() };
        let kept = Reader::read(&json, Way::ShortPoll, tail(&json).await).await.records;
        let known = repeat(&again, &produced, &kept).await;
        assert!(known > 0, "the producer had written before the backup");
        let (status, _) = ask(&again, "GET", "gone", &[], "").await;
        assert_eq!(status, 404);
        let (status, closed) = ask(&again, "HEAD", "closed", &[], "").await;
        assert_eq!((status, header(&closed, "Stream-Closed")), (200, Some("true")));
        let (status, fork) = ask(&again, "GET", "fork?offset=-1", &[], "").await;
        assert_eq!(status, 200);
        assert!(!fork.text().await.unwrap().is_empty());
        assert!(plain.acknowledged() + text.acknowledged() > 0);
    });
}

/// Sends what a producer had sent once more, up to the first that is not there. Returns how many were duplicates.
async fn repeat(server: &Server, account: &Account, kept: &[String]) -> usize {
    for (seq, batch) in account.batches.iter().enumerate() {
        let records: Vec<_> = batch.numbers.clone().map(|n| Kind::Json.record(&account.writer, n)).collect();
        assert!(!matches!(batch.fate, Fate::Unknown));
        let headers =
            [("Producer-Id", &*account.writer), ("Producer-Epoch", "0"), ("Content-Type", "application/json")];
        let number = seq.to_string();
        let headers = [&headers[..], &[("Producer-Seq", &number)]].concat();
        let (status, _) = ask(server, "POST", "load/json", &headers, &Kind::Json.body(&records)).await;
        let there = kept.contains(&records[0]);
        assert_eq!(status, if there { 204 } else { 200 }, "{seq}");
        if !there {
            return seq;
        }
    }
    account.batches.len()
}

#[test]
fn a_directory_at_rest_is_backed_up_as_well_and_a_pipe_will_do() {
    let mut server = Server::start();
    server.append_lines("s", &["--json"], &numbered(0..50)).succeeded();
    server.kill();
    let copy = Command::new(env!("CARGO_BIN_EXE_fourfold"))
        .args(["backup", "--data-dir", &server.data_dir(), "--to", "-"])
        .output()
        .unwrap();
    assert!(copy.status.success(), "{}", String::from_utf8_lossy(&copy.stderr));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("b");
    fs::write(&file, &copy.stdout).unwrap();
    let whole = fourfold(&["restore", file.to_str().unwrap(), "--verify"]).finish().succeeded();
    assert!(whole.stderr.contains("the backup is whole: 1 streams with 50 records"), "{}", whole.stderr);
    let again = restored(&file);
    let lines = again.tail("s", &["--offset", "-1", "--limit", "50"]).finish().succeeded().lines;
    assert_eq!(lines, numbered(0..50));
    // The directory itself is as it was.
    server.restart();
    assert_eq!(server.tail("s", &["--offset", "-1", "--limit", "50"]).finish().succeeded().lines, numbered(0..50));
}

#[test]
fn what_cannot_be_backed_up_or_restored_is_said_in_one_line() {
    let server = Server::start_with(&["--control-socket", "off"]);
    server.append_lines("s", &[], &["a".into()]).succeeded();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let told = |arguments: &[&str], why: &str| {
        let finished = fourfold(arguments).finish();
        assert!(finished.failed().contains(why), "{arguments:?}: {}", finished.stderr);
    };
    told(
        &["backup", "--data-dir", &server.data_dir(), "--to", &at("x")],
        "say with --socket where its control socket is",
    );
    told(&["backup", "--data-dir", &at("none"), "--to", &at("x")], "there are no streams in");
    told(&["backup", "--socket", &at("none"), "--to", &at("x")], "no server answers at");
    told(&["backup", "--data-dir", &server.data_dir(), "--to", &at("no/such/x")], "No such file or directory");
    fs::write(at("text"), "not a backup").unwrap();
    told(&["restore", &at("text"), "--data-dir", &at("new")], "this is no backup");
    told(&["restore", &at("none"), "--data-dir", &at("new")], "No such file or directory");
    told(&["restore", &at("text"), "--data-dir", dir.path().to_str().unwrap()], "is not empty");
    let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["new", "text"], "nothing half is left");
    assert_eq!(fs::read_dir(at("new")).unwrap().count(), 0);
}

#[test]
fn a_backup_whose_server_is_killed_leaves_no_file() {
    let mut server = Server::start();
    let large: Vec<_> = (0..40).map(|n| format!("{n} {}", "x".repeat(100_000))).collect();
    server.append_lines("s", &[], &large).succeeded();
    // Nobody reads its output yet, so it is in the middle when the server is killed.
    let mut taking = Command::new(env!("CARGO_BIN_EXE_fourfold"))
        .args(["backup", "--data-dir", &server.data_dir(), "--to", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = taking.stdout.take().unwrap();
    let mut begun = vec![0; 1000];
    out.read_exact(&mut begun).unwrap();
    server.kill();
    out.read_to_end(&mut begun).unwrap();
    let ended = taking.wait_with_output().unwrap();
    let why = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success() && why.contains("the backup did not come whole"), "{why}");
    // The same seen by a command that writes a file: the connection ends in the middle.
    let dir = tempfile::tempdir().unwrap();
    let (socket, file) = (dir.path().join("s"), dir.path().join("backup"));
    let listener = UnixListener::bind(&socket).unwrap();
    let breaking = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"ok a backup follows\n").and_then(|()| stream.write_all(&begun)).unwrap();
    });
    fs::write(&file, "the one before").unwrap();
    let finished = fourfold(&["backup", "--socket", socket.to_str().unwrap(), "--to", file.to_str().unwrap()]).finish();
    breaking.join().unwrap();
    assert!(finished.failed().contains("the backup did not come whole"));
    assert_eq!(fs::read(&file).unwrap(), b"the one before");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no other file is left");
}

#[test]
fn a_server_that_is_asked_to_end_breaks_a_backup_off() {
    let mut server = Server::start();
    let large: Vec<_> = (0..40).map(|n| format!("{n} {}", "x".repeat(100_000))).collect();
    server.append_lines("s", &[], &large).succeeded();
    let mut taking = Command::new(env!("CARGO_BIN_EXE_fourfold"))
        .args(["backup", "--data-dir", &server.data_dir(), "--to", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = taking.stdout.take().unwrap();
    out.read_exact(&mut [0; 1000]).unwrap();
    server.terminate().succeeded();
    assert!(!Path::new(&server.data_dir()).join("control.sock").exists());
    out.read_to_end(&mut Vec::new()).unwrap();
    assert!(!taking.wait().unwrap().success());
    server.restart();
}

#[test]
fn an_offset_that_a_restore_has_lost_is_refused_and_told_as_a_gap() {
    let server = Server::start();
    server.append_lines("s", &["--json"], &numbered(0..3)).succeeded();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("b");
    backup(&server, &file).succeeded();
    let told = |finished: Finished| finished.succeeded().lines[0].rsplit_once(' ').expect("an offset").1.to_owned();
    let kept = told(server.append_lines("s", &["--json"], &[]));
    let lost = told(server.append_lines("s", &["--json"], &numbered(3..5)));
    let again = restored(&file);
    again.append_lines("s", &["--json"], &numbered(7..12)).succeeded();
    run(async {
        let (status, rest) = ask(&again, "GET", &format!("s?offset={kept}"), &[], "").await;
        assert_eq!((status, rest.text().await.unwrap()), (200, format!("[{}]", numbered(7..12).join(","))));
        for way in ["", "&live=long-poll", "&live=sse"] {
            let (status, problem) = ask(&again, "GET", &format!("s?offset={lost}{way}"), &[], "").await;
            let problem = problem.text().await.unwrap();
            assert!(status == 410 && problem.contains("offset-of-another-epoch"), "{way}: {status} {problem}");
        }
        let (_, mut events) = ask(&again, "GET", "s?live=sse&offset=-1", &[("Last-Event-ID", &lost)], "").await;
        let mut first = String::new();
        while !first.contains("event: ") {
            first.push_str(&String::from_utf8_lossy(&events.chunk().await.unwrap().expect("an event")));
        }
        assert!(first.contains("event: gap"), "{first}");
        let list = ask(&again, "GET", "", &[], "").await.1.text().await.unwrap();
        let head = ask(&again, "HEAD", "s", &[], "").await.1;
        assert!(list.contains(header(&head, "Stream-Next-Offset").unwrap()), "{list}");
        assert!(!list.contains("forkedFrom"), "{list}");
        // Creating it again finds it.
        assert_eq!(ask(&again, "PUT", "s", &[("Content-Type", "application/json")], "").await.0, 200);
    });
}
