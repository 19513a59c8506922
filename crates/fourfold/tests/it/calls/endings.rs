//! Whatever an upstream or a program does, its call ends, tells how, and keeps what came before: on every transport, and after a restart.

use std::net::{SocketAddr, TcpListener};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::{
    begin, ended, has_begun, serving, shell,
    told::Told,
    upstream::{Step, Upstream, head, ms},
    url,
};
use crate::harness::{DEADLINE, Server, run};

/// What is configured, what it does, and what is told of it in the end.
struct Case {
    name: &'static str,
    config: Config,
    ending: Value,
    content: Content,
}

enum Config {
    Upstream { steps: Vec<Step>, more: &'static str },
    Program { script: &'static str, more: &'static str },
}

enum Content {
    Is(Vec<u8>),
    /// Of what was sent, as far as the kernel let it come.
    Begins(Vec<u8>),
}

fn upstream(
    name: &'static str,
    steps: Vec<Step>,
    more: &'static str,
    ending: Value,
    content: impl AsRef<[u8]>,
) -> Case {
    let content = Content::Is(content.as_ref().to_vec());
    Case { name, config: Config::Upstream { steps, more }, ending, content }
}

fn program(name: &'static str, script: &'static str, more: &'static str, ending: Value, content: &str) -> Case {
    Case { name, config: Config::Program { script, more }, ending, content: Content::Is(content.into()) }
}

fn finished() -> Value {
    json!({ "outcome": "finished" })
}

fn failed(code: &str) -> Value {
    json!({ "outcome": "failed", "code": code })
}

fn timed_out(code: &str) -> Value {
    json!({ "outcome": "timed-out", "code": code })
}

fn say(text: impl AsRef<[u8]>) -> Step {
    Step::Say(text.as_ref().to_vec())
}

const TEXT: &str = "content-type: text/plain; charset=utf-8";
const JSON_LINES: &str = "content-type: application/x-ndjson";
const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyz";
const UMLAUTS: &str = "zwölf Boxkämpfer — 十二 🥊\n";

fn bodies() -> Vec<Case> {
    let text = || head("200 OK", &[TEXT]);
    let chunked = || head("200 OK", &[TEXT, "transfer-encoding: chunked"]);
    vec![
        upstream(
            "dribbled",
            vec![head("200 OK", &[TEXT, "content-length: 26"]), Step::Drip(ALPHABET.into(), 1, ms(2))],
            "",
            json!({ "outcome": "finished", "status": 200, "bytes": 26 }),
            ALPHABET,
        ),
        upstream(
            "dribbled-head",
            vec![Step::Drip(format!("HTTP/1.1 200 OK\r\n{TEXT}\r\n\r\n").into(), 1, ms(1)), say("body")],
            "",
            finished(),
            "body",
        ),
        upstream(
            "by-its-connection",
            vec![text(), say("one"), Step::Rest(ms(20)), say("two")],
            "",
            finished(),
            "onetwo",
        ),
        upstream("old", vec![say("HTTP/1.0 200 OK\r\n\r\nold")], "", finished(), "old"),
        upstream("empty", vec![head("204 No Content", &[])], "", json!({ "outcome": "finished", "status": 204 }), ""),
        upstream("goes-on", vec![head("100 Continue", &[]), text(), say("then")], "", finished(), "then"),
        upstream(
            "shorter",
            vec![head("200 OK", &[TEXT, "content-length: 100"]), say("short")],
            "",
            failed("upstream-cut"),
            "short",
        ),
        upstream("longer", vec![head("200 OK", &[TEXT, "content-length: 4"]), say("fourfive")], "", finished(), "four"),
        upstream(
            "contradictory",
            vec![head("200 OK", &["content-length: 4", "content-length: 5"]), say("fourfive")],
            "",
            failed("upstream-protocol"),
            "",
        ),
        upstream(
            "chunks",
            vec![chunked(), say("3\r\none\r\n"), say("3;x=y\r\ntwo\r\n0\r\nTrailer: 1\r\n\r\n")],
            "",
            finished(),
            "onetwo",
        ),
        upstream("chunk-cut", vec![chunked(), say("3\r\none\r\n8\r\ncut")], "", failed("upstream-cut"), "onecut"),
        upstream("chunk-missing", vec![chunked(), say("3\r\none\r\n")], "", failed("upstream-cut"), "one"),
        upstream("chunk-broken", vec![chunked(), say("3\r\none\r\nzz\r\n")], "", failed("upstream-cut"), "one"),
        Case {
            content: Content::Begins("part".into()),
            ..upstream(
                "reset",
                vec![text(), say("part"), Step::Rest(ms(50)), Step::Reset],
                "",
                failed("upstream-cut"),
                "",
            )
        },
        upstream(
            "stalled",
            vec![text(), say("half"), Step::Hold],
            "idle-timeout = '300ms'",
            json!({ "outcome": "timed-out", "code": "idle-timeout", "status": 200, "bytes": 4, "records": 1 }),
            "half",
        ),
        Case {
            content: Content::Begins(vec![b'.'; 4_000]),
            ..upstream(
                "endless",
                vec![text(), Step::Drip(vec![b'.'; 4_000], 1, ms(5))],
                "total-timeout = '400ms'",
                timed_out("total-timeout"),
                "",
            )
        },
        upstream(
            "too-long",
            vec![text(), say("x".repeat(3_000))],
            "bytes-max = '2KiB'",
            failed("too-large"),
            "x".repeat(3_000),
        ),
    ]
}

fn heads() -> Vec<Case> {
    let hundred: Vec<String> = (0..99).map(|n| format!("x-{n}: {}", "v".repeat(100))).collect();
    let hundred: Vec<&str> = hundred.iter().map(String::as_str).chain([TEXT]).collect();
    let thousand: Vec<&str> = hundred.iter().copied().cycle().take(1_000).collect();
    vec![
        upstream("silent", vec![Step::Hold], "head-timeout = '300ms'", timed_out("head-timeout"), ""),
        upstream(
            "half-a-head",
            vec![say("HTTP/1.1 200 OK\r\nconte"), Step::Hold],
            "head-timeout = '300ms'",
            timed_out("head-timeout"),
            "",
        ),
        upstream("closed", vec![], "", failed("upstream-cut"), ""),
        upstream("closed-in-its-head", vec![say("HTTP/1.1 200 OK\r\nconte")], "", failed("upstream-cut"), ""),
        upstream("reset-at-once", vec![Step::Reset], "", failed("upstream-cut"), ""),
        upstream("no-http", vec![say("SSH-2.0-OpenSSH_9.2\r\n")], "", failed("upstream-protocol"), ""),
        upstream("no-status", vec![say("HTTP/1.1 abc\r\n\r\n")], "", failed("upstream-protocol"), ""),
        upstream(
            "switches",
            vec![head("101 Switching Protocols", &["connection: upgrade", "upgrade: x"]), say("x")],
            "",
            failed("upstream-protocol"),
            "",
        ),
        upstream(
            "compressed",
            vec![head("200 OK", &["content-encoding: gzip"]), say("\x1f")],
            "",
            failed("upstream-protocol"),
            "",
        ),
        upstream("hundred-headers", vec![head("200 OK", &hundred), say("many")], "", finished(), "many"),
        upstream("thousand-headers", vec![head("200 OK", &thousand), say("more")], "", failed("upstream-protocol"), ""),
        upstream(
            "endless-head",
            vec![say("HTTP/1.1 200 OK\r\nx: "), Step::Drip(vec![b'x'; 1 << 20], 1 << 16, ms(0)), Step::Hold],
            "",
            failed("upstream-protocol"),
            "",
        ),
        upstream(
            "fails",
            vec![
                head("500 Internal Server Error", &["content-type: application/problem+json"]),
                say("{\"title\": \"no\"}"),
            ],
            "",
            json!({ "outcome": "failed", "code": "upstream-status", "status": 500 }),
            "{\"title\": \"no\"}\n",
        ),
        upstream(
            "not-there",
            vec![head("404 Not Found", &[TEXT, "x-cost: 3", "content-length: 2"]), say("no")],
            "keep-headers = ['X-Cost']",
            json!({ "outcome": "failed", "code": "upstream-status", "status": 404, "headers": { "x-cost": "3" } }),
            "no",
        ),
        upstream(
            "elsewhere",
            vec![head("302 Found", &["location: http://169.254.169.254/", "content-length: 0"])],
            "",
            json!({ "outcome": "failed", "code": "redirect", "status": 302, "headers": { "location": "http://169.254.169.254/" } }),
            "",
        ),
    ]
}

fn records() -> Vec<Case> {
    let html = || head("200 OK", &["content-type: text/html"]);
    vec![
        upstream(
            "json-lines",
            vec![
                head("200 OK", &[JSON_LINES]),
                Step::Drip("{\"a\": \"ü}\"}\n[1,\r\n2]\n\"\\\"\"\n\n3".into(), 3, ms(1)),
            ],
            "",
            json!({ "outcome": "finished", "records": 4 }),
            "{\"a\": \"ü}\"}\n[1,2]\n\"\\\"\"\n3\n",
        ),
        upstream(
            "json-cut",
            vec![head("200 OK", &[JSON_LINES]), say("{\"a\":1}\n{\"b\":")],
            "",
            failed("malformed"),
            "{\"a\":1}\n",
        ),
        upstream(
            "json-cut-off",
            vec![head("200 OK", &[JSON_LINES, "content-length: 90"]), say("{\"a\":1}\n{\"b\":")],
            "",
            failed("upstream-cut"),
            "{\"a\":1}\n",
        ),
        upstream(
            "no-json",
            vec![head("200 OK", &["content-type: application/json"]), say("{\"a\":1}<html>")],
            "",
            failed("malformed"),
            "{\"a\":1}\n",
        ),
        upstream(
            "large-json",
            vec![head("200 OK", &[JSON_LINES]), say("1\n"), say(format!("\"{}\"\n", "x".repeat(5_000)))],
            "portion-bytes-max = '4KiB'",
            failed("too-large"),
            "1\n",
        ),
        upstream(
            "event-stream",
            vec![
                head("200 OK", &["content-type: text/event-stream"]),
                Step::Drip(
                    ": hi\r\n\r\nevent: progress\ndata: {\"p\":0.5}\nid: 1\n\ndata: zwö\rdata: lf\r\rdata: cut".into(),
                    2,
                    ms(1),
                ),
            ],
            "",
            json!({ "outcome": "finished", "records": 2 }),
            "{\"event\":\"progress\",\"data\":\"{\\\"p\\\":0.5}\",\"id\":\"1\"}\n{\"data\":\"zwö\\nlf\",\"id\":\"1\"}\n",
        ),
        upstream(
            "cut-characters",
            vec![html(), Step::Drip(UMLAUTS.repeat(5).into(), 1, ms(1))],
            "",
            finished(),
            UMLAUTS.repeat(5),
        ),
        upstream("ends-in-a-character", vec![html(), say(b"z\xc3")], "", failed("malformed"), "z"),
        upstream(
            "no-utf-8",
            vec![head("200 OK", &[TEXT]), say("good "), Step::Rest(ms(20)), say(b"b\xe4d")],
            "",
            failed("malformed"),
            "good b",
        ),
        upstream(
            "latin-1",
            vec![head("200 OK", &["content-type: text/plain; charset=iso-8859-1"]), say(b"B\xe4r")],
            "",
            finished(),
            b"B\xe4r",
        ),
        upstream("no-type", vec![head("200 OK", &[]), say(b"\0\xff")], "", finished(), b"\0\xff"),
        upstream("bad-type", vec![head("200 OK", &["content-type: what?"]), say("x")], "", finished(), "x"),
    ]
}

fn programs() -> Vec<Case> {
    let signal = |code: &str, signal: &str| json!({ "outcome": "timed-out", "code": code, "signal": signal });
    vec![
        program(
            "prints",
            "echo one; printf 'two\\nthree'",
            "",
            json!({ "outcome": "finished", "exitCode": 0, "records": 3 }),
            "one\ntwo\nthree",
        ),
        program(
            "exits",
            "echo no; echo why >&2; exit 7",
            "",
            json!({ "outcome": "failed", "code": "exit-status", "exitCode": 7, "stderr": "why\n" }),
            "no\n",
        ),
        program(
            "dies",
            "echo x; kill -SEGV $$",
            "",
            json!({ "outcome": "failed", "code": "signal", "signal": "SEGV" }),
            "x\n",
        ),
        program("hangs", "echo up; exec sleep 1000", "idle-timeout = '300ms'", signal("idle-timeout", "TERM"), "up\n"),
        program(
            "hangs-mid-line",
            "printf up; exec sleep 1000",
            "idle-timeout = '300ms'",
            signal("idle-timeout", "TERM"),
            "up",
        ),
        program(
            "deaf",
            "trap '' TERM; echo up; while kill -0 $PPID; do sleep 0.1; done",
            "total-timeout = '300ms'",
            signal("total-timeout", "KILL"),
            "up\n",
        ),
        program("forks", "sleep 1000 & echo forked", "", json!({ "outcome": "finished", "exitCode": 0 }), "forked\n"),
        program(
            "forks-away",
            "setsid sleep 3 & echo away",
            "",
            json!({ "outcome": "finished", "exitCode": 0 }),
            "away\n",
        ),
        program(
            "closes",
            "echo early; exec >&-; sleep 0.2; exit 3",
            "",
            json!({ "outcome": "failed", "code": "exit-status", "exitCode": 3 }),
            "early\n",
        ),
        program(
            "closes-and-hangs",
            "echo early; exec >&-; exec sleep 1000",
            "total-timeout = '300ms'",
            signal("total-timeout", "TERM"),
            "early\n",
        ),
        program("does-not-read", "echo no thanks", "", finished(), "no thanks\n"),
        program(
            "floods-its-errors",
            "head -c 20000000 /dev/zero | tr '\\0' e >&2; echo out; echo last words >&2",
            "",
            json!({ "outcome": "finished", "stderr": format!("{}last words\n", "e".repeat(4_096 - 11)) }),
            "out\n",
        ),
        program(
            "floods",
            "head -c 300000 /dev/zero",
            "portions = 'bytes'\ncontent-type = 'image/png'",
            json!({ "outcome": "finished", "bytes": 300_000 }),
            &"\0".repeat(300_000),
        ),
        program("no-text", "echo good; printf 'b\\344d\\n'; echo after", "", failed("malformed"), "good\n"),
        program(
            "json",
            "echo '{\"progress\":0.5}'; echo '[1]'",
            "content-type = 'application/json'",
            finished(),
            "{\"progress\":0.5}\n[1]\n",
        ),
    ]
}

/// Nobody listens there, and nobody else can begin to while this is held.
fn closed_port() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    socket.bind(&any.into()).expect("a free port");
    let address = socket.local_addr().expect("it is bound").as_socket().expect("it is of the Internet");
    (socket, address)
}

fn check(told: &Told, case: &Case) {
    let name = case.name;
    for (member, value) in case.ending.as_object().expect("an object") {
        assert_eq!(&told.ending[member], value, "{name}: {}", told.ending);
    }
    if case.ending["outcome"] == "finished" {
        assert!(told.ending["code"].is_null() && told.ending["error"].is_null(), "{name}: {}", told.ending);
    } else {
        assert!(told.ending["error"].is_string(), "{name}: {}", told.ending);
    }
    assert!(told.ending["durationMs"].is_u64(), "{name}: {}", told.ending);
    match &case.content {
        Content::Is(content) => assert!(told.content == *content, "{name}: {:?}", told.text()),
        Content::Begins(content) => assert!(content.starts_with(&told.content), "{name}: {:?}", told.text()),
    }
}

/// Runs them all at once, and looks at each on every transport, before a kill of the server and after it.
fn are_told_apart(cases: Vec<Case>) {
    let scripts: Vec<_> = cases
        .iter()
        .filter_map(|case| match &case.config {
            Config::Upstream { steps, .. } => Some((case.name, steps.clone())),
            Config::Program { .. } => None,
        })
        .collect();
    let upstream =
        Upstream::start(move |asked| scripts.iter().find(|(name, _)| *name == asked.path).expect("a script").1.clone());
    let config = |case: &Case| match &case.config {
        Config::Upstream { more, .. } => url(case.name, &upstream.url(case.name), more),
        Config::Program { script, more } => shell(case.name, script, more),
    };
    let config: String = cases.iter().map(config).collect();
    let mut server = serving(&config);
    let address = server.address();
    let before = run(within_deadline(async {
        let mut ids = Vec::new();
        for case in &cases {
            ids.push(begin(&address, case.name, vec![b'x'; 100_000]).await);
        }
        let mut before = Vec::new();
        for (case, id) in cases.iter().zip(ids) {
            ended(&address, &id).await;
            let told = Told::of(&address, &id).await;
            check(&told, case);
            before.push((id, told));
        }
        before
    }));
    server.kill();
    server.restart();
    run(within_deadline(async {
        for (id, told) in before {
            assert_eq!(Told::of(&address, &id).await, told);
        }
    }));
}

async fn within_deadline<T>(facts: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, facts).await.expect("all before the deadline")
}

#[test]
fn what_an_upstream_does_to_its_body_is_told() {
    are_told_apart(bodies());
}

#[test]
fn what_an_upstream_does_to_its_head_is_told() {
    are_told_apart(heads());
}

#[test]
fn what_an_upstream_says_becomes_records_however_it_is_cut() {
    are_told_apart(records());
}

#[test]
fn what_a_program_does_is_told() {
    are_told_apart(programs());
}

#[test]
fn an_upstream_or_program_that_is_not_there_is_told() {
    let (_closed, refusing) = closed_port();
    // Its queue of connections is full: nobody is refused, nobody gets through.
    let deaf = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    deaf.bind(&any.into()).expect("a free port");
    deaf.listen(0).expect("it listens");
    let deaf: TcpListener = deaf.into();
    let deaf_address = deaf.local_addr().expect("it listens");
    let _waiting = std::net::TcpStream::connect(deaf_address).expect("the first fits into the queue");
    let server = serving(&format!(
        "{}{}{}[calls.program]\ncommand = ['/no/such/program']\n[calls.directory]\ncommand = ['/']\n",
        url("refused", &format!("http://{refusing}/"), ""),
        url("deaf", &format!("http://{deaf_address}/"), "connect-timeout = '200ms'"),
        url("nameless", "http://host.invalid/", ""),
    ));
    run(within_deadline(async {
        for (name, outcome, code) in [
            ("refused", "failed", "upstream-unreachable"),
            ("deaf", "timed-out", "connect-timeout"),
            ("nameless", "failed", "upstream-unreachable"),
            ("program", "failed", "not-found"),
            ("directory", "failed", "not-started"),
        ] {
            let address = server.address();
            let id = begin(&address, name, Vec::new()).await;
            ended(&address, &id).await;
            let told = Told::of(&address, &id).await;
            assert_eq!((&told.ending["outcome"], &told.ending["code"]), (&json!(outcome), &json!(code)), "{name}");
            assert_eq!(told.content, b"");
        }
    }));
}

#[test]
fn who_has_ended_a_call_is_told_also_after_a_restart() {
    let upstream = Upstream::start(|_| vec![head("200 OK", &[TEXT]), say("so far"), Step::Hold]);
    let mut server = serving(&format!(
        "{}{}{}",
        url("held", &upstream.url("held"), ""),
        url("unwatched", &upstream.url("unwatched"), "cancel-unwatched = '1s'"),
        shell("program", "trap 'echo bye; exit 0' TERM; echo up; while kill -0 $PPID; do sleep 0.05; done", ""),
    ));
    let address = server.address();
    let cancelled = |id: &str| format!("http://{address}/v1/stream/calls/{id}/cancel");
    let told = run(within_deadline(async {
        let mut told = Vec::new();
        for (name, code) in [("held", "asked"), ("program", "asked"), ("unwatched", "unwatched")] {
            let id = begin(&address, name, Vec::new()).await;
            has_begun(&address, &id).await;
            if code == "asked" {
                let http = crate::reader::http();
                crate::reader::answer(http.post(cancelled(&id)), &[202]).await.expect("it is up");
            }
            ended(&address, &id).await;
            let of = Told::of(&address, &id).await;
            assert_eq!((&of.ending["outcome"], &of.ending["code"]), (&json!("cancelled"), &json!(code)), "{name}");
            told.push((id, of));
        }
        told
    }));
    let mut told = check_again(&server, told);
    for (code, stop) in [("killed", Server::kill as fn(&mut Server)), ("draining", drain)] {
        let ids = run(within_deadline(async {
            let mut ids = Vec::new();
            for name in ["held", "program"] {
                let id = begin(&address, name, Vec::new()).await;
                has_begun(&address, &id).await;
                ids.push(id);
            }
            ids
        }));
        stop(&mut server);
        server.restart();
        told = check_again(&server, told);
        run(within_deadline(async {
            for (id, text) in ids.into_iter().zip(["so far", "up\n"]) {
                let of = Told::of(&address, &id).await;
                let (outcome, why) = (&of.ending["outcome"], &of.ending["code"]);
                assert_eq!((outcome, why), (&json!("interrupted"), &json!(code)), "{}", of.ending);
                assert_eq!(of.text(), text);
                told.push((id, of));
            }
        }));
    }
    server.kill();
    server.restart();
    check_again(&server, told);
}

fn drain(server: &mut Server) {
    server.terminate().succeeded();
}

fn check_again(server: &Server, told: Vec<(String, Told)>) -> Vec<(String, Told)> {
    run(within_deadline(async {
        for (id, told) in &told {
            assert_eq!(Told::of(&server.address(), id).await, *told);
        }
    }));
    told
}
