//! What an operator does to a server that runs: asks how it is, has it read its configuration again, ends it, and reads its log.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    harness::{DEADLINE, Running, Server, fourfold, fourfold_with, run},
    reader::http,
};

/// A server with this configuration file; its address and the operator's.
fn serve(config: &Path, data: &Path, variables: &[(&str, &str)]) -> (Running, String, String) {
    let (config, data) = (config.to_str().expect("UTF-8"), data.to_str().expect("UTF-8"));
    let arguments =
        ["serve", "--config", config, "--data-dir", data, "--listen", "127.0.0.1:0", "--drain-spread", "0s"];
    let running = fourfold_with(&arguments, variables);
    let address = running.line().strip_prefix("listening on http://").expect("the first line").to_owned();
    let operator = running.line().strip_prefix("metrics and health on http://").expect("the second line").to_owned();
    (running, address, operator)
}

/// Sends bytes and reads all that comes until the connection ends.
async fn exchange(address: &str, bytes: &str) -> String {
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    socket.write_all(bytes.as_bytes()).await.expect("it takes it");
    let mut answer = Vec::new();
    timeout(DEADLINE, socket.read_to_end(&mut answer)).await.expect("in time").expect("it answers");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn check_asks_the_server_that_runs() {
    let mut server = Server::start();
    let operator = server.operator().to_owned();
    let ask = |how: &str| fourfold(&["check", "--admin-listen", &operator, how]).finish();
    ask("--live").succeeded();
    let begun = Instant::now();
    // It listens before it serves: whoever comes meanwhile waits, and it says so.
    while ask("--ready").code != Some(0) {
        assert!(begun.elapsed() < DEADLINE, "it is never ready");
    }
    server.terminate().succeeded();
    assert!(ask("--live").failed().contains("nobody answers at"));
}

#[test]
fn check_explains_and_refuses() {
    let finished = fourfold(&["check", "--listen", "127.0.0.1:80", "--admin-listen", "off"]).finish().succeeded();
    let page = finished.lines.join("\n");
    assert!(page.contains("--listen") && page.contains("Metrics and health are not told."), "{page}");
    let finished = fourfold(&["check", "--listen", "here"]).finish();
    assert_eq!(finished.code, Some(2));
    assert!(finished.failed().contains("--listen: 'here' is not an address"));
}

#[test]
fn a_port_for_the_operator_that_was_asked_for_and_is_taken_is_a_reason_not_to_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let finished =
        fourfold(&["serve", "--engine", "memory", "--listen", "127.0.0.1:0", "--admin-listen", &address]).finish();
    assert!(finished.failed().contains(&format!("cannot tell metrics and health on {address}")));
}

#[test]
fn the_configuration_is_read_again_by_signal_and_by_command_and_nobody_is_dropped() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (config, data) = (dir.path().join("fourfold.toml"), dir.path().join("data"));
    fs::write(&config, "log = 'warn'\n").expect("it is written");
    let (running, address, _) = serve(&config, &data, &[]);
    let reload = || fourfold(&["reload", "--data-dir", data.to_str().expect("UTF-8")]).finish();
    run(async {
        let mut stays = TcpStream::connect(&address).await.expect("it listens");
        fs::write(&config, "log = 'info'\nthreads = 7\n").expect("it is written");
        let told = reload().succeeded().stderr;
        assert!(told.contains("log changed; a restart is needed for threads"), "{told}");
        fs::write(&config, "log = 'info'\nlong-poll-timeout = 'soon'\n").expect("it is written");
        let refused = reload();
        assert!(refused.failed().contains("line 2: long-poll-timeout: 'soon' is not a duration"), "{refused:?}");
        fs::write(&config, "log = 'info'\n").expect("it is written");
        running.signal(Signal::HUP);
        let told = reload().succeeded().stderr; // One at a time, so the signal's has been before or comes next.
        assert!(told.contains("no setting has changed"), "{told}");
        stays
            .write_all(b"GET /v1/stream/none HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .expect("it is there");
        let mut answer = String::new();
        timeout(DEADLINE, stays.read_to_string(&mut answer)).await.expect("in time").expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    });
    running.signal(Signal::TERM);
    let log = running.finish().succeeded().stderr;
    assert!(log.matches("the configuration was reloaded").count() >= 2, "{log}");
    assert!(log.contains("the configuration was not reloaded, the one before stays in force"), "{log}");
}

#[test]
fn the_data_directory_is_for_nobody_else_and_one_that_is_not_is_told_of() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (config, data) = (dir.path().join("fourfold.toml"), dir.path().join("below/data"));
    fs::write(&config, "").expect("it is written");
    let mode = || fs::metadata(&data).expect("it is there").permissions().mode() & 0o777;
    let served = || {
        let (running, ..) = serve(&config, &data, &[]);
        running.signal(Signal::TERM);
        running.finish().succeeded().stderr
    };
    let told = "other users of this machine can read the streams and their keys: chmod 700";
    assert!(!served().contains(told));
    assert_eq!(mode(), 0o700);
    let check =
        || fourfold(&["check", "--data-dir", data.to_str().expect("UTF-8")]).finish().succeeded().lines.join("\n");
    assert!(!check().contains("holds all streams"));
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).expect("it is ours");
    assert!(served().contains(told));
    assert_eq!(mode(), 0o755, "somebody may have a reason");
    let page = check();
    assert!(page.contains("holds all streams and their keys and can be read by everybody on this machine"), "{page}");
}

#[test]
fn a_reload_takes_no_rules_away() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (config, data) = (dir.path().join("fourfold.toml"), dir.path().join("data"));
    fs::write(&config, "[access.anonymous]\nread = ['public/**']\n").expect("it is written");
    let (running, address, _) = serve(&config, &data, &[]);
    let reload = || fourfold(&["reload", "--data-dir", data.to_str().expect("UTF-8")]).finish();
    let create = || run(exchange(&address, "PUT /v1/stream/a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
    for file in ["", "log = 'info'\nlisten = '127.0.0.1:0'\n", "insecure-open = true\n"] {
        fs::write(&config, file).expect("it is written");
        assert!(reload().failed().contains("there are no [access] rules any more"), "{file}");
        let answer = create();
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    }
    fs::write(&config, "[access.anonymous]\ncreate = ['**']\n").expect("it is written");
    reload().succeeded();
    let answer = create();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    running.signal(Signal::TERM);
    running.finish().succeeded();
}

#[cfg(not(feature = "otel"))]
#[test]
fn a_collector_that_is_named_to_a_server_without_traces_is_told_of_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (config, data) = (dir.path().join("fourfold.toml"), dir.path().join("data"));
    fs::write(&config, "").expect("it is written");
    for (url, told) in [("http://sEcRet@127.0.0.1:4318", 1), ("", 0)] {
        let (running, ..) = serve(&config, &data, &[("OTEL_EXPORTER_OTLP_ENDPOINT", url)]);
        running.signal(Signal::TERM);
        let log = running.finish().succeeded().stderr;
        assert_eq!(log.matches("this server was built without the feature 'otel'").count(), told, "{log}");
        assert!(!log.contains("sEcRet"), "{log}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let server = Server::start_with(&["--drain-deadline", "1h"]);
    let held = run(async {
        let body = "PUT /v1/stream/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: 0\r\n\r\n";
        assert!(exchange(&server.address(), body).await.starts_with("HTTP/1.1 201"));
        // An append whose body does not come holds the drain open.
        let mut never = TcpStream::connect(server.address()).await.expect("it listens");
        let head = "POST /v1/stream/x HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\n";
        never.write_all(head.as_bytes()).await.expect("it takes it");
        never.readable().await.expect("it waits for the body, and says so");
        server.ask_to_end();
        let ready = format!("http://{}/health/ready", server.operator());
        while http().get(&ready).send().await.expect("it drains for an hour").status() != 503 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server.ask_to_end();
        never
    });
    let mut server = server;
    let finished = server.finish();
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("a second signal: ending at once"), "{}", finished.stderr);
    drop(held); // Until now, or the drain would be over without it.
}

#[test]
fn systemd_is_told_what_happens() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    let (config, data) = (dir.path().join("fourfold.toml"), dir.path().join("data"));
    fs::write(&config, "log = 'off'\n").expect("it is written");
    let path = path.to_str().expect("UTF-8");
    let (running, ..) = serve(&config, &data, &[("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", "200000")]);
    let until = |wanted: &str| {
        let mut told = Vec::new();
        loop {
            let mut word = [0; 256];
            let bytes = socket.recv(&mut word).unwrap_or_else(|_| panic!("{wanted} does not come: {told:?}"));
            let word = String::from_utf8_lossy(&word[..bytes]).into_owned();
            let is_it = word.lines().any(|line| line == wanted);
            told.push(word);
            if is_it {
                return told;
            }
        }
    };
    until("READY=1");
    until("WATCHDOG=1");
    until("WATCHDOG=1");
    running.signal(Signal::HUP);
    let told = until("RELOADING=1");
    assert!(told.last().is_some_and(|word| word.contains("MONOTONIC_USEC=")), "{told:?}");
    until("READY=1");
    running.signal(Signal::TERM);
    until("STOPPING=1");
    running.finish().succeeded();
}

#[test]
fn a_refusal_is_logged_with_the_address_that_it_was_for() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (config, data) = (dir.path().join("fourfold.toml"), dir.path().join("data"));
    let refused = |proxies: &str| {
        fs::write(&config, format!("log = 'fourfold_server=debug'\n{proxies}")).expect("it is written");
        let (running, address, _) = serve(&config, &data, &[]);
        // The first is plain, the others are for hyper; over a WebSocket it is the handshake that is refused.
        let rest = "host: x\r\nconnection: close\r\nx-forwarded-for: 203.0.113.9\r\n";
        for head in ["GET /v1/stream/none", "DELETE /v1/stream/none", "POST /v1/call/none"] {
            let answer = run(exchange(&address, &format!("{head} HTTP/1.1\r\n{rest}\r\n")));
            assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        }
        running.signal(Signal::TERM);
        running.finish().succeeded().stderr
    };
    for (proxies, peer) in [("", "peer=127.0.0.1"), ("trusted-proxies = '127.0.0.0/8'\n", "peer=203.0.113.9")] {
        let log = refused(proxies);
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("refused")).collect();
        assert_eq!(lines.len(), 3, "{log}");
        assert!(lines.iter().all(|line| line.contains(peer)), "{peer}: {log}");
    }
}

#[test]
fn neither_tokens_nor_records_are_in_the_log_at_any_level() {
    const SECRETS: [&str; 5] = ["sEcRetHeAdEr", "sEcRetCoOkIe", "sEcRetQuErY", "sEcRetPrOtOcOl", "sEcRetReCoRd"];
    let [header, cookie, query, protocol, record] = SECRETS;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (config, data) = (dir.path().join("fourfold.toml"), dir.path().join("data"));
    fs::write(&config, "log = 'trace'\nlog-format = 'json'\n").expect("it is written");
    let (running, address, _) = serve(&config, &data, &[]);
    run(async {
        let close = "host: x\r\nconnection: close\r\n";
        let body = format!("content-type: text/plain\r\ncontent-length: {}\r\n\r\n{record}", record.len());
        for request in [
            format!("PUT /v1/stream/a HTTP/1.1\r\n{close}{body}"),
            format!("POST /v1/stream/a?token={query} HTTP/1.1\r\n{close}authorization: Bearer {header}\r\n{body}"),
            format!("POST /v1/stream/none?access_token={query} HTTP/1.1\r\n{close}cookie: token={cookie}\r\n{body}"),
            format!(
                "GET /v1/stream/a?offset=-1&token={query} HTTP/1.1\r\n{close}authorization: Bearer {header}\r\n\r\n"
            ),
            format!(
                "GET /v1/stream/none?token={query} HTTP/1.1\r\n{close}cookie: t={cookie}\r\nauthorization: {header}\r\n\r\n"
            ),
            format!("PATCH /v1/stream/a?token={query} HTTP/1.1\r\n{close}\r\n"),
            format!(
                "GET /v1/stream/none?offset=-1&token={query} HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                 sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-protocol: fourfold, {protocol}\r\n\r\n"
            ),
            format!("GET /v1/stream/a?token={query} NONSENSE\r\nauthorization: {header}\r\n\r\n"),
        ] {
            let mut socket = TcpStream::connect(&address).await.expect("it listens");
            socket.write_all(request.as_bytes()).await.expect("it takes it");
            socket.shutdown().await.expect("it is there");
            let mut answer = Vec::new();
            timeout(DEADLINE, socket.read_to_end(&mut answer)).await.expect("in time").expect("it answers");
            assert!(answer.starts_with(b"HTTP/1.1 "), "{}", String::from_utf8_lossy(&answer));
        }
        let refused = exchange(&address, "GET /v1/stream/none HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(refused.starts_with("HTTP/1.1 404"), "{refused}");
    });
    running.signal(Signal::TERM);
    let log = running.finish().succeeded().stderr;
    for secret in SECRETS {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
    let refusal =
        log.lines().find(|line| line.contains("stream-not-found")).unwrap_or_else(|| panic!("no refusal in {log}"));
    let line: serde_json::Value = serde_json::from_str(refusal).expect("a line is an object");
    assert_eq!(
        (&line["message"], &line["path"], &line["status"]),
        (&"refused".into(), &"/v1/stream/none".into(), &404.into()),
        "{line}"
    );
}
