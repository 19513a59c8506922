//! What a traced append looks like, whichever way it came.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Request;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::{
    collector::{Collector, Temper},
    harness::{DEADLINE, run},
    server::{Begun, Server, request},
    spans::{Span, Trace},
};

#[test]
fn an_append_continues_the_trace_of_its_request() {
    let collector = Collector::start(Temper::Takes);
    let variables = [("OTEL_SERVICE_NAME", "orders"), ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")];
    let server = Server::start(&collector.url(), &variables, &[]);
    let begun = Begun::sampled(1);
    let answer = server.append(&format!("{}tracestate: vendor=value\r\n", begun.header()));
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    server.end();
    let exports = collector.exports();
    assert_eq!(exports[0].head[0], "POST /v1/traces HTTP/1.1");
    assert!(exports[0].head.contains(&"content-type: application/x-protobuf".to_owned()), "{:?}", exports[0].head);
    let spans: Vec<_> = exports.iter().flat_map(|export| Span::all(&export.body)).collect();
    let Trace { receive, queue, commit, acknowledge } = Trace::of(&spans, &begun.trace);
    assert_eq!(spans.len(), 4, "the creation is not traced");
    assert_eq!((receive.parent.as_str(), receive.state.as_str()), (begun.span.as_str(), "vendor=value"));
    assert!(commit.end > commit.start, "a sync takes time");
    assert_eq!(receive.status, 0);
    for (key, value) in [
        ("http.request.method", "POST"),
        ("http.response.status_code", "204"),
        ("http.route", "/v1/stream/{name}"),
        ("network.protocol.version", "1.1"),
        ("url.scheme", "http"),
        ("fourfold.append.records", "1"),
        ("fourfold.append.bytes", "5"),
        ("fourfold.append.durable", "true"),
        ("fourfold.append.duplicate", "false"),
    ] {
        assert_eq!(receive.says(key), Some(value), "{key} of {receive:#?}");
    }
    assert_eq!(receive.attributes.len(), 9, "{receive:#?}");
    assert!([queue, commit, acknowledge].iter().all(|part| part.attributes.is_empty()));
    let of_resource = |key: &str| receive.resource.get(key).map(String::as_str);
    assert_eq!(of_resource("service.name"), Some("orders"));
    assert_eq!(of_resource("deployment.environment.name"), Some("test"));
    assert_eq!(of_resource("service.version"), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(of_resource("fourfold.durability"), Some("synced"));
}

#[test]
fn an_append_in_memory_is_traced_and_not_durable() {
    let collector = Collector::start(Temper::Takes);
    let server = Server::start(&collector.url(), &[], &["--engine", "memory"]);
    let begun = Begun::sampled(1);
    assert!(server.append(&begun.header()).starts_with("HTTP/1.1 204"));
    server.end();
    let receive = Trace::of(&collector.spans(), &begun.trace).receive;
    assert_eq!(receive.says("fourfold.append.durable"), Some("false"), "{receive:#?}");
    let of_resource = |key: &str| receive.resource.get(key).map(String::as_str);
    assert_eq!((of_resource("service.name"), of_resource("fourfold.durability")), (Some("fourfold"), Some("none")));
}

#[test]
fn every_way_of_http_is_traced() {
    let collector = Collector::start(Temper::Takes);
    let server = Server::start(&collector.url(), &[], &[]);
    let begun: Vec<_> = (1..=4).map(Begun::sampled).collect();
    // Two at once, and the second one closes.
    let pipelined = request("a", &begun[0].header(), "one")
        + &request("a", &format!("connection: close\r\n{}", begun[1].header()), "three");
    let answers = server.exchange(&pipelined);
    assert_eq!(answers.matches("HTTP/1.1 204").count(), 2, "{answers}");
    // In chunks, which is not for the fast way.
    let chunked = format!(
        "POST /v1/stream/a HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\nconnection: close\r\n{}\r\n5\r\nhello\r\n0\r\n\r\n",
        begun[2].header()
    );
    let answer = server.exchange(&chunked);
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    run(async {
        let socket = TcpStream::connect(&server.address).await.expect("it listens");
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
                .await
                .expect("HTTP/2 without TLS, on this machine");
        tokio::spawn(connection);
        let request = Request::post(format!("http://{}/v1/stream/a", server.address))
            .header("content-type", "text/plain")
            .header("traceparent", begun[3].value())
            .body(Full::new(Bytes::from_static(b"hello")));
        let answer = sender.send_request(request.expect("a request")).await.expect("an answer");
        assert_eq!(answer.status(), 204);
    });
    server.end();
    let spans = collector.spans();
    let version = |begun: &Begun| {
        let receive = Trace::of(&spans, &begun.trace).receive;
        assert_eq!(receive.parent, begun.span);
        receive.says("network.protocol.version").map(str::to_owned)
    };
    let versions: Vec<_> = begun.iter().map(|begun| version(begun).expect("it says")).collect();
    assert_eq!(versions, ["1.1", "1.1", "1.1", "2"]);
}

#[test]
fn an_append_over_websocket_continues_the_trace_of_its_handshake() {
    let collector = Collector::start(Temper::Takes);
    let server = Server::start(&collector.url(), &[("OTEL_TRACES_SAMPLER", "parentbased_always_off")], &[]);
    let begun = Begun::sampled(1);
    let talk = |traceparent: Option<String>| {
        run(async {
            let url = format!("ws://{}/v1/stream/a?offset=now&records=none", server.address);
            let mut request = url.into_client_request().expect("a request");
            if let Some(value) = traceparent {
                request.headers_mut().insert("traceparent", value.parse().expect("a value"));
            }
            let socket = TcpStream::connect(&server.address).await.expect("it listens");
            let (mut socket, _) = tokio_tungstenite::client_async(request, socket).await.expect("a WebSocket");
            let mut answers = Vec::new();
            for message in [
                r#"{"id":1,"append":["one","two"]}"#,
                r#"{"id":2,"append":["x"],"producer":{"id":"p","epoch":0,"seq":7}}"#,
            ] {
                socket.send(Message::text(message)).await.expect("it takes it");
                loop {
                    let answer = timeout(DEADLINE, socket.next()).await.expect("in time").expect("it goes on");
                    let answer = answer.expect("a message").into_text().expect("text");
                    if answer.contains("\"id\":") {
                        answers.push(answer.as_str().to_owned());
                        break;
                    }
                }
            }
            answers
        })
    };
    let answers = talk(Some(begun.value()));
    assert!(answers[0].contains("\"ack\"") && answers[1].contains("producer-gap"), "{answers:?}");
    talk(None); // By our own ratio, which is none.
    server.end();
    let spans = collector.spans();
    assert!(spans.iter().all(|span| span.trace == begun.trace), "{spans:#?}");
    let (refused, done): (Vec<_>, _) =
        spans.into_iter().filter(|span| span.name == "receive").partition(|span| span.status == 2);
    let ([refused], [done]) = (refused.as_slice(), done.as_slice()) else { panic!("{refused:#?} {done:#?}") };
    assert_eq!((refused.parent.as_str(), done.parent.as_str()), (begun.span.as_str(), begun.span.as_str()));
    assert_eq!(refused.says("error.type"), Some("producer-gap"));
    for (key, value) in [
        ("network.protocol.name", Some("websocket")),
        ("url.scheme", Some("ws")),
        ("http.request.method", None),
        ("fourfold.append.records", Some("2")),
        ("fourfold.append.bytes", Some("6")),
        ("fourfold.append.durable", Some("true")),
    ] {
        assert_eq!(done.says(key), value, "{key} of {done:#?}");
    }
}

#[test]
fn a_refused_append_is_an_error_and_says_its_code() {
    let collector = Collector::start(Temper::Takes);
    let server = Server::start(&collector.url(), &[], &[]);
    let (absent, gap) = (Begun::sampled(1), Begun::sampled(2));
    let answer = server.exchange(&request("none", &format!("connection: close\r\n{}", absent.header()), "x"));
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let producer = "producer-id: p\r\nproducer-epoch: 0\r\nproducer-seq: 7\r\n";
    let answer = server.append(&format!("{producer}{}", gap.header()));
    assert!(answer.starts_with("HTTP/1.1 409"), "{answer}");
    server.end();
    let spans = collector.spans();
    // One that never came to the engine has no parts.
    let found: Vec<_> = spans.iter().filter(|span| span.trace == absent.trace).collect();
    let [receive] = found.as_slice() else { panic!("{found:#?}") };
    assert_eq!((receive.name.as_str(), receive.status), ("receive", 2));
    assert_eq!(receive.says("error.type"), Some("stream-not-found"));
    assert_eq!(receive.says("http.response.status_code"), Some("404"));
    assert_eq!(receive.says("fourfold.append.durable"), Some("false"));
    // What the engine refuses waits for its group like any other: it may rest on an append in it.
    let receive = Trace::of(&spans, &gap.trace).receive;
    assert_eq!((receive.status, receive.says("error.type")), (2, Some("producer-gap")));
    assert_eq!(receive.says("fourfold.append.durable"), Some("false"));
}

#[test]
fn an_append_that_is_cut_off_is_unanswered() {
    let collector = Collector::start(Temper::Takes);
    let server = Server::start(&collector.url(), &[], &["--drain-deadline", "100ms"]);
    let begun = Begun::sampled(1);
    let head = request("a", &format!("expect: 100-continue\r\n{}", begun.header()), "never");
    let held = run(async {
        let mut socket = TcpStream::connect(&server.address).await.expect("it listens");
        socket.write_all(head.strip_suffix("never").expect("its body").as_bytes()).await.expect("it takes it");
        timeout(DEADLINE, socket.readable()).await.expect("in time").expect("it asks for the body");
        socket.into_std().expect("a socket")
    });
    server.end(); // It waits for the body until its deadline.
    drop(held);
    let spans = collector.spans();
    let [receive] = spans.as_slice() else { panic!("{spans:#?}") };
    assert_eq!((&receive.trace, &receive.parent), (&begun.trace, &begun.span));
    assert_eq!((receive.status, receive.says("error.type")), (2, Some("unanswered")));
    assert_eq!(receive.says("http.response.status_code"), None);
}
