//! Programs that live on: behind their output, behind their end, behind somebody's wish.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{begin, ended, has_begun, serving, shell, state};
use crate::{
    harness::{DEADLINE, Server, run},
    reader::{AGAIN, answer, http},
};

async fn text(address: &str, id: &str) -> String {
    let url = format!("http://{address}/v1/stream/calls/{id}");
    answer(http().get(url), &[200]).await.expect("it is up").text().await.expect("a whole answer")
}

async fn cancel(address: &str, id: &str) {
    let url = format!("http://{address}/v1/calls/{id}/cancel");
    answer(http().post(url), &[202]).await.expect("it is up");
}

/// Whether such a process runs; one that nobody has waited for does not.
fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

async fn is_gone(pid: &str) {
    let gone = async {
        while runs(pid) {
            sleep(AGAIN).await;
        }
    };
    timeout(DEADLINE, gone).await.expect("it is gone before the deadline");
}

/// Closes its output behind what it says, and lives on until it is asked to end, which it minds.
const LIVES_ON: &str = "trap 'exit 9' TERM; echo early; exec >&-; while kill -0 $PPID; do sleep 0.05; done";

#[test]
fn what_a_program_said_is_there_while_it_lives_on_without_an_output() {
    let server = serving(&shell("work", LIVES_ON, ""));
    let address = server.address();
    run(async {
        let id = begin(&address, "work", Vec::new()).await;
        timeout(DEADLINE, has_begun(&address, &id)).await.expect("it comes while the program lives");
        assert_eq!(text(&address, &id).await, "early\n");
        assert_eq!(state(&address, &id).await["state"], "running");
    });
}

#[test]
fn a_program_that_lives_on_without_an_output_ends_in_its_own_way_when_it_is_asked_to() {
    let server = serving(&format!("{}grace = '60s'\n", shell("work", LIVES_ON, "").replace("grace = '100ms'\n", "")));
    let address = server.address();
    run(async {
        let id = begin(&address, "work", Vec::new()).await;
        timeout(DEADLINE, has_begun(&address, &id)).await.expect("it begins");
        cancel(&address, &id).await;
        ended(&address, &id).await;
        let ending = state(&address, &id).await["ending"].clone();
        assert_eq!((&ending["outcome"], &ending["exitCode"]), (&json!("cancelled"), &json!(9)), "{ending}");
    });
}

#[test]
fn nobody_watching_ends_also_a_program_without_an_output() {
    let server = serving(&shell("work", LIVES_ON, "cancel-unwatched = '1s'"));
    let address = server.address();
    run(async {
        let id = begin(&address, "work", Vec::new()).await;
        timeout(DEADLINE, ended(&address, &id)).await.expect("the end before the deadline");
        let ending = state(&address, &id).await["ending"].clone();
        assert_eq!((&ending["code"], &ending["exitCode"]), (&json!("unwatched"), &json!(9)), "{ending}");
    });
}

#[test]
fn what_a_program_has_started_ends_with_it_in_every_way() {
    let fork = |then: &str| format!("sleep 1000 & echo $!; {then}");
    let mut server = serving(&format!(
        "{}{}{}{}",
        shell("exits", &fork("exit 3"), ""),
        shell("waits", &fork("wait"), ""),
        shell("late", &fork("wait"), "total-timeout = '300ms'"),
        shell("deaf", &format!("trap '' TERM; {}", fork("while kill -0 $PPID; do sleep 0.1; done")), ""),
    ));
    let address = server.address();
    let started = |name| {
        let address = &address;
        async move {
            let id = begin(address, name, Vec::new()).await;
            has_begun(address, &id).await;
            (text(address, &id).await, id)
        }
    };
    run(async {
        for (name, how) in [("exits", "failed"), ("waits", "cancelled"), ("late", "timed-out"), ("deaf", "cancelled")] {
            let (pid, id) = timeout(DEADLINE, started(name)).await.expect("it begins");
            if how == "cancelled" {
                cancel(&address, &id).await;
            }
            timeout(DEADLINE, ended(&address, &id)).await.expect("the end before the deadline");
            assert_eq!(state(&address, &id).await["ending"]["outcome"], how);
            is_gone(&pid).await;
        }
    });
    let (pids, id) = run(async { (started("waits").await.0 + &started("deaf").await.0, started("waits").await.1) });
    server.terminate().succeeded();
    run(async {
        for pid in pids.lines() {
            is_gone(pid).await;
        }
    });
    server.restart();
    assert_eq!(run(ending_of(&server, &id))["code"], "draining");
}

async fn ending_of(server: &Server, id: &str) -> Value {
    state(&server.address(), id).await["ending"].clone()
}

#[test]
fn what_outlived_a_kill_of_the_server_ends_with_its_next_start() {
    let mut server = serving(&format!(
        "{}{}",
        shell("silent", "trap '' TERM HUP PIPE; sleep 1000 & echo $!; while :; do sleep 0.1; done", ""),
        shell("away", "setsid sleep 1000 & echo $!; wait", ""),
    ));
    let address = server.address();
    let begun = run(async {
        let mut begun = Vec::new();
        for name in ["silent", "away"] {
            let id = begin(&address, name, Vec::new()).await;
            timeout(DEADLINE, has_begun(&address, &id)).await.expect("it begins");
            begun.push((text(&address, &id).await, id));
        }
        begun
    });
    server.kill();
    assert!(begun.iter().all(|(pid, _)| runs(pid)), "nobody has ended them");
    server.restart();
    for (pid, id) in begun {
        run(is_gone(&pid));
        assert_eq!(run(ending_of(&server, &id))["code"], "killed");
    }
}
