//! `fourfold call`: programs of the configuration, run over the wire, seen to their end, left, found again, cancelled.

use std::{fs, io::Write, path::PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Finished, Running, Server, TRANSPORTS, fourfold};

/// A server with calls, and the gate that some of their programs wait for.
struct Calls {
    server: Server,
    gate: PathBuf,
    _dir: TempDir,
}

impl Calls {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (gate, config) = (dir.path().join("gate"), dir.path().join("calls.toml"));
        let text = r#"
            calls-max = 50
            [calls.count]
            content-type = "application/json"
            command = ["sh", "-c", "for n in 1 2 3; do echo \"{\\\"n\\\": $n, \\\"progress\\\": 0.$n}\"; done"]
            [calls.copy]
            command = ["cat"]
            content-type = "application/octet-stream"
            portions = "bytes"
            [calls.path]
            rest = true
            command = ["sh", "-c", "echo $FOURFOLD_CALL_REST $FOURFOLD_CALL_QUERY"]
            [calls.fails]
            command = ["sh", "-c", "echo half; echo why it failed >&2; exit 3"]
            [calls.gated]
            command = ["sh", "-c", "echo 1; echo 2; echo 3; while [ ! -e GATE ] && kill -0 $PPID; do sleep 0.02; done; echo 4; printf 5"]
        "#;
        fs::write(&config, text.replace("GATE", gate.to_str().unwrap())).unwrap();
        let settings = ["--config", config.to_str().unwrap()];
        let server = Server::start_in(tempfile::tempdir().unwrap(), "127.0.0.1:0", &settings);
        Self { server, gate, _dir: dir }
    }

    fn open_the_gate(&self) {
        fs::write(&self.gate, "").unwrap();
    }

    fn call(&self, arguments: &[&str]) -> Running {
        fourfold(&[&["call", "--url", &self.server.url()], arguments].concat())
    }

    /// The id of a call that was begun and left.
    fn detached(&self, arguments: &[&str]) -> String {
        let finished = self.call(&[arguments, &["--detach"]].concat()).finish().succeeded();
        assert_eq!((finished.lines.len(), finished.stderr.as_str()), (1, ""));
        finished.lines[0].clone()
    }
}

/// What `--json` tells of the end.
fn ending(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stderr).unwrap_or_else(|_| panic!("not one line of JSON: {}", finished.stderr))
}

#[test]
fn a_call_prints_its_records_and_tells_its_end_whichever_transport_it_is_read_by() {
    let calls = Calls::start();
    for transport in TRANSPORTS {
        let finished = calls.call(&["count", "--transport", transport]).finish().succeeded();
        let wanted = [1, 2, 3].map(|n| format!(r#"{{"n": {n}, "progress": 0.{n}}}"#));
        assert_eq!(finished.lines, wanted, "{transport}: to the letter");
        let told = finished.stderr.trim_end();
        assert!(told.starts_with("fourfold: finished after ") && told.lines().count() == 1, "{transport}: {told}");
        assert!(told.contains(": 3 records out of "), "{told}");
    }
}

#[test]
fn a_body_is_a_text_a_file_or_standard_input() {
    let calls = Calls::start();
    let copied = |data: &str| calls.call(&["copy", "--data", data]).finish().succeeded().lines;
    assert_eq!(copied("zwölf\nBoxkämpfer"), ["zwölf", "Boxkämpfer"]);
    let file = calls.gate.with_file_name("body");
    fs::write(&file, "from a file\n").unwrap();
    assert_eq!(copied(&format!("@{}", file.display())), ["from a file"]);
    let mut call = calls.call(&["copy", "--data", "-"]);
    call.stdin().write_all(b"from standard input").unwrap();
    assert_eq!(call.finish().succeeded().lines, ["from standard input"]);
    assert_eq!(calls.call(&["copy"]).finish().succeeded().lines, [""; 0]);
    let passed = calls.call(&["path/2026/11?lang=de&x"]).finish().succeeded().lines;
    assert_eq!(passed, ["/2026/11 lang=de&x"]);
}

#[test]
fn a_program_that_fails_is_told_with_its_last_words_and_an_exit_status() {
    let calls = Calls::start();
    let finished = calls.call(&["fails"]).finish();
    assert_eq!((finished.code, finished.lines.as_slice()), (Some(1), ["half".to_owned()].as_slice()));
    let (line, words) = finished.stderr.split_once('\n').unwrap();
    assert!(line.starts_with("fourfold: failed after ") && line.ends_with("; exit code 3"), "{line}");
    assert!(line.contains("; exit-status; "), "{line}");
    assert_eq!(words, "  | why it failed\n");

    let finished = calls.call(&["fails", "--json"]).finish();
    assert_eq!(finished.code, Some(1));
    let told = ending(&finished);
    assert_eq!((&told["outcome"], &told["exitCode"]), (&"failed".into(), &3.into()));
}

#[test]
fn whoever_leaves_is_told_how_to_go_on_and_misses_nothing() {
    let calls = Calls::start();
    for transport in TRANSPORTS {
        let call = calls.call(&["gated", "--transport", transport]);
        assert_eq!([call.line(), call.line(), call.line()], ["1", "2", "3"]);
        call.signal(Signal::INT);
        let finished = call.finish();
        assert_eq!(finished.code, Some(130), "{transport}");
        let (_, resume) = finished.failed().split_once("with: fourfold ").expect("the command that goes on");
        let arguments: Vec<&str> = resume.split(' ').collect();

        let again = fourfold(&[&arguments, &["--transport", transport][..]].concat());
        calls.open_the_gate();
        let finished = again.finish().succeeded();
        assert_eq!(finished.lines, ["4", "5"], "{transport}");
        assert!(finished.stderr.starts_with("fourfold: finished after "), "{}", finished.stderr);

        let id = arguments[2];
        assert_eq!(calls.call(&["--resume", id]).finish().succeeded().lines, ["1", "2", "3", "4", "5"]);
        fs::remove_file(&calls.gate).unwrap();
    }
}

#[test]
fn a_call_whose_server_is_killed_is_followed_to_its_end() {
    for transport in TRANSPORTS {
        let mut calls = Calls::start();
        let call = calls.call(&["gated", "--json", "--transport", transport]);
        assert_eq!([call.line(), call.line(), call.line()], ["1", "2", "3"]);
        calls.server.kill();
        calls.open_the_gate(); // The program is nobody's any more: it must not wait for ever.
        calls.server.restart();
        let finished = call.finish();
        assert_eq!((finished.code, finished.lines.len()), (Some(4), 0), "{transport}: {}", finished.stderr);
        let told = finished.stderr.lines().last().unwrap();
        let told: Value = serde_json::from_str(told).unwrap();
        assert_eq!((&told["outcome"], &told["code"]), (&"interrupted".into(), &"killed".into()));
    }
}

#[test]
fn a_call_is_cancelled_once_and_its_reader_sees_it() {
    let calls = Calls::start();
    let id = calls.detached(&["gated"]);
    let reader = calls.call(&["--resume", &id]);
    assert_eq!([reader.line(), reader.line(), reader.line()], ["1", "2", "3"]);
    let finished = calls.call(&["--cancel", &id]).finish().succeeded();
    assert_eq!(finished.stderr, format!("fourfold: the call {id} is cancelled\n"));
    let finished = reader.finish();
    assert_eq!(finished.code, Some(3));
    assert!(finished.stderr.starts_with("fourfold: cancelled after "), "{}", finished.stderr);
    let again = calls.call(&["--cancel", &id]).finish();
    assert!(again.failed().contains("call-ended"), "{}", again.stderr);
    assert_eq!(again.code, Some(2));
}

#[test]
fn the_same_key_is_the_same_call() {
    let calls = Calls::start();
    let id = calls.detached(&["gated", "--key", "k", "--data", "x"]);
    assert_eq!(calls.detached(&["gated", "--key", "k", "--data", "x"]), id);
    assert_ne!(calls.detached(&["gated", "--data", "x"]), id);
    let other = calls.call(&["gated", "--key", "k", "--data", "y", "--detach"]).finish();
    assert!(other.failed().contains("idempotency-key-reused"), "{}", other.stderr);
    calls.open_the_gate();
}

#[test]
fn a_tail_of_a_call_that_has_not_answered_knows_its_records_later() {
    let calls = Calls::start();
    let slow = calls.gate.with_file_name("slow.toml");
    let text = "[calls.slow]\ncontent-type = 'application/json'\ncommand = ['sh', '-c', \
                'while [ ! -e GATE ] && kill -0 $PPID; do sleep 0.02; done; echo {}; echo 7']\n";
    fs::write(&slow, text.replace("GATE", calls.gate.to_str().unwrap())).unwrap();
    for transport in TRANSPORTS {
        let server = Server::start_with(&["--config", slow.to_str().unwrap()]);
        let id = fourfold(&["call", "slow", "--detach", "--url", &server.url()]).finish().succeeded().lines.remove(0);
        let tail = server.tail(&format!("calls/{id}"), &["--offset", "-1", "--transport", transport]);
        calls.open_the_gate();
        assert_eq!(tail.finish().succeeded().lines, ["{}", "7"], "{transport}");
        fs::remove_file(&calls.gate).unwrap();
    }
}

#[test]
fn what_cannot_be_called_is_one_line() {
    let calls = Calls::start();
    for (arguments, why) in [
        (&["nothing"][..], "call-not-found"),
        (&["count/rest"], "call"),
        (&["a b"], "'a b' is not a call"),
        (&["--resume", "00000000000000000000000000"], "there is no stream"),
        (&["--cancel", "00000000000000000000000000"], "call-not-found"),
        (&["copy", "--data", "@/no/such/file"], "/no/such/file: "),
    ] {
        let finished = calls.call(arguments).finish();
        assert!(finished.failed().contains(why), "{arguments:?}: {}", finished.stderr);
        assert_eq!(finished.code, Some(2), "{arguments:?}");
    }
}

#[test]
fn a_configuration_of_calls_that_cannot_be_meant_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.toml");
    fs::write(&path, "engine = 'memory'\n[calls.x]\nurl = 'ftp://host/'\n").unwrap();
    let finished = fourfold(&["serve", "--listen", "127.0.0.1:0", "--config", path.to_str().unwrap()]).finish();
    let line = finished.failed();
    assert!(line.contains("bad.toml line 3: calls.x: url: it begins with http"), "{line}");
    assert_eq!(finished.code, Some(2));
}
