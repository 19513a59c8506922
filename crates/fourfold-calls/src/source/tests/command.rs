//! Programs that print, hang, fork and ignore.

use std::{path::Path, time::Duration};

use rustix::process::{Pid, test_kill_process};
use tokio::time::sleep;

use super::*;

fn sh(script: &str, more: &str) -> Order {
    order(&format!("command = ['sh', '-c', {}]\n{more}", serde_json::Value::from(script)))
}

fn with_body(mut order: Order, body: impl Into<Bytes>) -> Order {
    order.body = body.into();
    order
}

/// A process that a script has told us of by its id, alone in its line.
fn told(text: &str) -> Pid {
    Pid::from_raw(text.trim().parse().unwrap()).unwrap()
}

/// Waits until it is no more; whoever inherits it takes its status.
async fn gone(process: Pid) {
    while test_kill_process(process).is_ok() && !is_zombie(process) {
        sleep(Duration::from_millis(5)).await;
    }
}

fn is_zombie(process: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

#[test]
fn a_program_gives_what_it_prints() {
    run(async {
        let outcome = all(with_body(sh("echo one; cat; echo oops >&2", ""), "from the body")).await;
        assert_eq!(outcome.text(), "one\nfrom the body");
        let head = outcome.head.as_ref().unwrap();
        assert_eq!((head.content_type.as_str(), head.status), ("text/plain; charset=utf-8", None));
        let facts = outcome.facts();
        assert_eq!((facts.exit_code, facts.signal, facts.failure.as_ref()), (Some(0), None, None));
        assert_eq!(facts.stderr.as_deref(), Some("oops\n"));
    });
}

#[test]
fn a_line_comes_while_the_program_goes_on() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let go = directory.path().join("go");
        let script = format!("echo one; while [ ! -e {} ]; do sleep 0.01; done; echo two", go.display());
        let mut source = Source::start(sh(&script, ""));
        head(&mut source).await;
        assert_eq!(bytes(&mut source).await, "one\n");
        std::fs::write(&go, "").unwrap();
        assert_eq!(bytes(&mut source).await, "two\n");
        assert_eq!(source.next().await, Ok(None));
        assert_eq!(source.end().await.exit_code, Some(0));
    });
}

#[test]
fn a_program_sees_only_its_own_environment() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let mut order = order(&format!(
            "command = ['env']\nenvironment = {{ A = 'b c' }}\nrest = true\ndirectory = {}",
            serde_json::Value::from(directory.path().to_str().unwrap())
        ));
        order.rest = "/a/b".into();
        order.query = Some("x=1".into());
        let outcome = all(order).await;
        let text = outcome.text();
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "A=b c",
                "FOURFOLD_CALL_ID=call-1",
                "FOURFOLD_CALL_QUERY=x=1",
                "FOURFOLD_CALL_REST=/a/b",
                "PATH=/usr/local/bin:/usr/bin:/bin"
            ]
        );
        let place = all(self::order(&format!("command = ['pwd']\ndirectory = '{}'", directory.path().display()))).await;
        assert_eq!(Path::new(place.text().trim()), directory.path().canonicalize().unwrap());
    });
}

#[test]
fn how_a_program_ends_is_told_apart() {
    run(async {
        let exited = all(sh("echo half; exit 3", "")).await;
        assert_eq!((exited.text().as_str(), exited.facts().exit_code), ("half\n", Some(3)));
        assert_eq!(exited.facts().failure.as_ref().unwrap().code, "exit-status");
        let killed = all(sh("echo half; kill -SEGV $$", "")).await;
        assert_eq!((killed.facts().exit_code, killed.facts().signal), (None, Some("SEGV")));
        assert_eq!(killed.facts().failure.as_ref().unwrap().code, "signal");
        let missing = all(order("command = ['/no/such/program']")).await;
        assert_eq!(missing.code(), "not-found");
        assert_eq!(missing.end.unwrap_err().1, Facts::default());
        assert_eq!(all(order("command = ['no-such-program']")).await.code(), "not-found");
        assert_eq!(all(order("command = ['/']")).await.code(), "not-started");
    });
}

#[test]
fn a_program_that_does_not_read_its_input_hangs_nothing() {
    run(async {
        let body = vec![b'x'; 1 << 20];
        let ended = all(with_body(sh("echo done", ""), body.clone())).await;
        assert_eq!((ended.text().as_str(), ended.facts().exit_code), ("done\n", Some(0)));
        let closed = all(with_body(sh("exec <&-; echo done; sleep 0.1; echo late", ""), body.clone())).await;
        assert_eq!(closed.text(), "done\nlate\n");
        let counted = all(with_body(sh("wc -c", ""), body)).await;
        assert_eq!(counted.text().trim(), "1048576");
        assert_eq!(all(sh("cat", "")).await.text(), "", "without a body the input ends at once");
    });
}

#[test]
fn both_outputs_may_be_large() {
    run(async {
        let script = "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero | tr '\\0' e >&2; printf last >&2";
        let outcome = all(sh(script, "")).await;
        assert_eq!(outcome.pieces.iter().map(Bytes::len).sum::<usize>(), 3_000_000);
        assert!(outcome.pieces.iter().all(|piece| piece.len() <= 64 << 10));
        let stderr = outcome.facts().stderr.as_ref().unwrap();
        assert_eq!(stderr.len(), 4_096);
        assert!(stderr.ends_with("eeelast"));
    });
}

#[test]
fn a_hanging_program_is_ended_by_the_time_it_breaks() {
    run(async {
        for (config, code) in [("idle-timeout = '50ms'", "idle-timeout"), ("total-timeout = '50ms'", "total-timeout")] {
            let (failure, facts) = all(sh("echo $$; exec sleep 1000", config)).await.end.unwrap_err();
            assert_eq!((failure.kind, failure.code), (FailureKind::Timeout, code));
            assert_eq!(facts.signal, Some("TERM"));
        }
        let closed = all(sh("exec >&-; exec sleep 1000", "total-timeout = '50ms'")).await;
        assert_eq!(closed.facts().failure.as_ref().unwrap().code, "total-timeout");
    });
}

#[test]
fn errors_are_a_sign_of_life() {
    run(async {
        let script = "for i in 1 2 3 4 5 6 7 8; do sleep 0.2; echo $i >&2; done; echo done";
        assert_eq!(all(sh(script, "idle-timeout = '1s'")).await.text(), "done\n");
    });
}

#[test]
fn a_stopped_program_takes_its_children_with_it() {
    run(async {
        let mut source = Source::start(sh("trap 'echo bye >&2; exit 7' TERM; sleep 1000 & echo $!; wait", ""));
        head(&mut source).await;
        let child = told(std::str::from_utf8(&bytes(&mut source).await).unwrap());
        let facts = source.stop().await;
        assert_eq!((facts.exit_code, facts.stderr.as_deref(), facts.failure), (Some(7), Some("bye\n"), None));
        gone(child).await;
    });
}

#[test]
fn a_program_that_ignores_term_is_killed_after_its_grace() {
    run(async {
        let script = "trap '' TERM; sleep 1000 & echo $!; wait; while :; do sleep 1; done";
        let mut source = Source::start(sh(script, "grace = '100ms'"));
        head(&mut source).await;
        let child = told(std::str::from_utf8(&bytes(&mut source).await).unwrap());
        assert_eq!(source.stop().await.signal, Some("KILL"));
        gone(child).await;
    });
}

#[test]
fn a_dropped_program_is_killed_with_its_children() {
    run(async {
        let mut source = Source::start(sh("trap '' TERM; sleep 1000 & echo $!; echo $$; wait", ""));
        head(&mut source).await;
        let mut text = String::new();
        while text.lines().count() < 2 {
            text += std::str::from_utf8(&bytes(&mut source).await).unwrap();
        }
        drop(source);
        for line in text.lines() {
            gone(told(line)).await;
        }
    });
}

#[test]
fn a_child_that_keeps_the_pipe_is_not_waited_for_beyond_the_grace() {
    run(async {
        let outcome = all(sh("sleep 1000 & echo $!; exit 4", "grace = '100ms'")).await;
        let child = told(&outcome.text());
        assert_eq!(outcome.facts().exit_code, Some(4));
        gone(child).await;
        // One that left the group cannot be killed with it; it is not waited for either.
        let outcome = all(sh("setsid sh -c 'sleep 3' & echo left", "grace = '50ms'")).await;
        assert_eq!((outcome.text().as_str(), outcome.facts().exit_code), ("left\n", Some(0)));
        let outcome = all(sh("sleep 1000 & exit 4", "grace = '1s'\nidle-timeout = '200ms'")).await;
        assert_eq!(outcome.facts().exit_code, Some(4), "silence does not count once the program has exited");
        // What a child still writes within the grace is given.
        let outcome = all(sh("(sleep 0.1; echo late) & echo early", "grace = '30s'")).await;
        assert_eq!(outcome.text(), "early\nlate\n");
    });
}

#[test]
fn a_program_stands_still_while_its_output_is_not_taken() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let (count, end) = (directory.path().join("count"), directory.path().join("end"));
        // It notes each 64 KiB that it got rid of.
        let script = format!(
            "i=0; while [ $i -lt 100 ]; do head -c 65536 /dev/zero; i=$((i+1)); echo $i > {}; done; touch {}",
            count.display(),
            end.display()
        );
        let mut source = Source::start(sh(&script, ""));
        head(&mut source).await;
        let mut taken = bytes(&mut source).await.len();
        // A pipe is full when what was written does not change any more.
        let mut seen = (String::new(), 0);
        while seen.1 < 10 {
            sleep(Duration::from_millis(30)).await;
            let now = std::fs::read_to_string(&count).unwrap_or_default();
            seen = if now == seen.0 { (now, seen.1 + 1) } else { (now, 0) };
        }
        assert!(!end.exists());
        while let Some(Piece::Bytes(piece)) = source.next().await.unwrap() {
            taken += piece.len();
        }
        assert_eq!(taken, 6_553_600);
        assert_eq!(source.end().await.exit_code, Some(0));
    });
}

#[test]
fn next_can_be_dropped_and_asked_again() {
    run(async {
        let mut source = Source::start(with_body(sh("sleep 0.1; cat; sleep 0.1; echo end", ""), vec![b'x'; 300_000]));
        let mut taken = Vec::new();
        loop {
            match timeout(Duration::from_millis(1), source.next()).await {
                Ok(Ok(Some(Piece::Bytes(piece)))) => taken.extend_from_slice(&piece),
                Ok(Ok(Some(Piece::Head(_)))) | Err(_) => {}
                Ok(Ok(None)) => break,
                Ok(Err(failure)) => panic!("{failure}"),
            }
        }
        assert_eq!(taken.len(), 300_004);
        assert_eq!(source.end().await.exit_code, Some(0));
    });
}
