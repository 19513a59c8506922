//! Upstreams that dribble, stall, reset and lie.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::http::HeaderValue;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc, watch},
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::aws_lc_rs::default_provider, pki_types::PrivateKeyDer},
};

use super::{
    super::http::Exchange,
    upstream::{Upstream, closed, reset},
    *,
};

#[test]
fn an_answer_comes_as_it_is_written() {
    run(async {
        let (go, mut went) = mpsc::channel::<()>(1);
        let (tell, told) = watch::channel(0);
        let step = Arc::new(tokio::sync::Mutex::new(told));
        let upstream = Upstream::new(move |mut socket: TcpStream| {
            let (step, go) = (step.clone(), go.clone());
            async move {
                socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
                for nth in 1..=3 {
                    go.send(()).await.unwrap();
                    step.lock().await.wait_for(|&told| told >= nth).await.unwrap();
                    socket.write_all(b"3\r\nab\n\r\n").await?;
                }
                socket.write_all(b"0\r\nTrailer: x\r\n\r\n").await
            }
        })
        .await;
        let mut source = Source::start(order(&upstream.config("")));
        let head = head(&mut source).await;
        assert_eq!((head.content_type.as_str(), head.status), ("text/html; charset=utf-8", Some(200)));
        for nth in 1..=3 {
            went.recv().await.unwrap();
            tell.send(nth).unwrap();
            // The next chunk is written only when this one has been read.
            assert_eq!(bytes(&mut source).await, "ab\n");
        }
        assert_eq!(source.next().await, Ok(None));
        assert_eq!(source.next().await, Ok(None), "the end stays");
        assert_eq!(source.end().await, Facts::default());
    });
}

#[test]
fn a_request_says_what_the_configuration_lets_pass() {
    run(async {
        let upstream = Upstream::saying(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        let mut order = order(&format!(
            "url = 'http://127.0.0.1:{}/base/?fixed=1'\nrest = true\npass-headers = ['X-Two', 'content-type']\nheaders = {{ X-Fixed = 'yes' }}",
            upstream.port()
        ));
        order.rest = "/a%20b/c".into();
        order.query = Some("x=1&y".into());
        order.key = Some("key-9".into());
        order.body = "a body".into();
        for (name, value) in
            [("x-two", "1"), ("x-two", "2"), ("content-type", "text/x"), ("cookie", "secret"), ("host", "evil.example")]
        {
            order.headers.append(name, HeaderValue::from_static(value));
        }
        let outcome = all(order).await;
        assert_eq!(outcome.facts(), &Facts::default());
        let request = upstream.requests().remove(0);
        assert!(request.starts_with("POST /base/a%20b/c?fixed=1&x=1&y HTTP/1.1\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\na body"), "{request}");
        let mut lines: Vec<_> = request.lines().skip(1).take_while(|line| !line.is_empty()).collect();
        lines.sort_unstable();
        let host = format!("host: 127.0.0.1:{}", upstream.port());
        assert_eq!(
            lines,
            [
                "accept-encoding: identity",
                "connection: close",
                "content-length: 6",
                "content-type: text/x",
                "fourfold-call: call-1",
                &host,
                "idempotency-key: key-9",
                concat!("user-agent: fourfold/", env!("CARGO_PKG_VERSION")),
                "x-fixed: yes",
                "x-two: 1",
                "x-two: 2"
            ]
        );
    });
}

#[test]
fn nothing_of_an_unsafe_path_is_sent() {
    run(async {
        let upstream = Upstream::saying(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        for (config, rest) in [("rest = true", "/../admin"), ("rest = true", "/a%2f.."), ("", "/a")] {
            let mut order = order(&upstream.config(config));
            order.rest = rest.into();
            assert_eq!(all(order).await.code(), "rest-refused");
        }
        assert!(upstream.requests().is_empty());
    });
}

#[test]
fn a_status_of_an_error_keeps_its_body_and_is_told_at_the_end() {
    run(async {
        let upstream = Upstream::saying(
            b"HTTP/1.1 500 Oops\r\nContent-Length: 5\r\nContent-Type: text/plain\r\nX-Cost: 7\r\nX-Other: 8\r\nX-Cost: 9\r\n\r\nsorry",
        )
        .await;
        let outcome = all(order(&upstream.config("keep-headers = ['X-Cost', 'X-None']"))).await;
        let head = outcome.head.as_ref().unwrap();
        assert_eq!(head.status, Some(500));
        assert_eq!(head.headers, [("x-cost".to_owned(), "7, 9".to_owned())]);
        assert_eq!(outcome.text(), "sorry");
        let failure = outcome.facts().failure.as_ref().unwrap();
        assert_eq!((failure.kind, failure.code), (FailureKind::Failed, "upstream-status"));
    });
}

#[test]
fn a_redirect_is_told_and_not_followed() {
    run(async {
        let elsewhere = Upstream::saying(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        let port = elsewhere.port();
        let upstream = Upstream::new(move |mut socket: TcpStream| async move {
            let answer =
                format!("HTTP/1.1 307 Away\r\nLocation: http://127.0.0.1:{port}/x\r\nContent-Length: 0\r\n\r\n");
            socket.write_all(answer.as_bytes()).await
        })
        .await;
        let (failure, _) = all(order(&upstream.config(""))).await.end.unwrap_err();
        assert_eq!((failure.code, failure.status), ("redirect", Some(307)));
        assert_eq!(failure.headers, [("location".to_owned(), format!("http://127.0.0.1:{port}/x"))]);
        assert!(elsewhere.requests().is_empty());
    });
}

#[test]
fn an_answer_that_breaks_off_is_cut() {
    run(async {
        for (answer, resets) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"[..], false),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", false),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n9\r\n", false),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nnonsense\r\n", false),
            (b"HTTP/1.1 200 OK\r\n\r\nhalf", true),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", true),
        ] {
            let read = Arc::new(Notify::new());
            let was_read = read.clone();
            let upstream = Upstream::new(move |mut socket: TcpStream| {
                let was_read = was_read.clone();
                async move {
                    socket.write_all(answer).await?;
                    was_read.notified().await;
                    if resets {
                        reset(&socket);
                    }
                    Ok(())
                }
            })
            .await;
            let mut source = Source::start(order(&upstream.config("")));
            head(&mut source).await;
            assert_eq!(bytes(&mut source).await, "half");
            read.notify_one();
            let failure = rest_of(source).await.unwrap_err();
            assert_eq!(failure.code, "upstream-cut", "{}: {failure}", String::from_utf8_lossy(answer));
        }
    });
}

async fn rest_of(mut source: Source) -> Result<(), Failure> {
    while source.next().await?.is_some() {}
    Ok(())
}

#[test]
fn a_body_without_a_length_ends_with_its_connection() {
    run(async {
        for answer in [
            &b"HTTP/1.0 200 OK\r\n\r\nwhole"[..],
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nwhole",
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole and more than was promised",
        ] {
            let outcome = all(order(&Upstream::saying(answer).await.config(""))).await;
            assert_eq!(outcome.text(), "whole");
            assert_eq!(outcome.facts(), &Facts::default());
            assert_eq!(outcome.head.unwrap().content_type, "application/octet-stream");
        }
    });
}

#[test]
fn what_is_no_answer_is_told_apart() {
    run(async {
        let large = format!("HTTP/1.1 200 OK\r\nX-Large: {}\r\n\r\n", "a".repeat(1_000_000)).leak();
        for (answer, code) in [
            (&b"SSH-2.0-OpenSSH\r\n\r\n"[..], "upstream-protocol"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "upstream-protocol"),
            (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", "upstream-protocol"),
            (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", "upstream-protocol"),
            (large.as_bytes(), "upstream-protocol"),
            (b"HTTP/1.1 200 OK\r\nContent-T", "upstream-cut"),
            (b"", "upstream-cut"),
        ] {
            let outcome = all(order(&Upstream::saying(answer).await.config(""))).await;
            assert_eq!(outcome.code(), code, "{:?}", outcome.end);
            assert_eq!((outcome.head, outcome.pieces.len()), (None, 0));
        }
    });
}

#[test]
fn an_upstream_that_is_not_there_is_unreachable() {
    run(async {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        for url in [format!("http://127.0.0.1:{port}/"), "http://host.invalid/".into()] {
            let outcome = all(order(&format!("url = '{url}'"))).await;
            assert_eq!(outcome.code(), "upstream-unreachable", "{:?}", outcome.end);
        }
        for (greeting, code) in [("this is no TLS at all", "upstream-unreachable"), ("", "connect-timeout")] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let url = format!("url = 'https://127.0.0.1:{port}/'\nconnect-timeout = '100ms'");
            let server = async move {
                let (mut socket, _) = listener.accept().await.unwrap();
                socket.write_all(greeting.as_bytes()).await.unwrap();
                closed(&mut socket).await;
            };
            let (outcome, ()) = tokio::join!(all(order(&url)), server);
            assert_eq!(outcome.code(), code, "{:?}", outcome.end);
        }
    });
}

#[test]
fn silence_ends_a_call_by_the_time_that_it_breaks() {
    run(async {
        for (said, config, code) in [
            (&b""[..], "head-timeout = '50ms'", "head-timeout"),
            (b"HTTP/1.1 200 OK\r\n", "head-timeout = '50ms'", "head-timeout"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "idle-timeout = '50ms'", "idle-timeout"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "total-timeout = '50ms'", "total-timeout"),
            (b"", "total-timeout = '50ms'", "total-timeout"),
        ] {
            let (tell, mut gone) = mpsc::channel(1);
            let upstream = Upstream::new(move |mut socket: TcpStream| {
                let tell = tell.clone();
                async move {
                    socket.write_all(said).await?;
                    closed(&mut socket).await;
                    tell.send(()).await.unwrap();
                    Ok(())
                }
            })
            .await;
            let outcome = all(order(&upstream.config(config))).await;
            let (failure, facts) = outcome.end.unwrap_err();
            assert_eq!((failure.kind, failure.code), (FailureKind::Timeout, code));
            assert_eq!(facts, Facts::default());
            gone.recv().await.expect("the connection is closed");
        }
    });
}

#[test]
fn an_upstream_that_never_stops_is_ended_by_the_total_time() {
    run(async {
        let upstream = Upstream::new(async |mut socket: TcpStream| {
            socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            loop {
                socket.write_all(&[b'x'; 1_000]).await?;
            }
        })
        .await;
        assert_eq!(all(order(&upstream.config("total-timeout = '200ms'"))).await.code(), "total-timeout");
    });
}

#[test]
fn a_call_that_is_stopped_closes_its_connection_at_once() {
    run(async {
        for takes_head in [false, true] {
            let (tell, mut gone) = mpsc::channel(2);
            let upstream = Upstream::new(move |mut socket: TcpStream| {
                let tell = tell.clone();
                async move {
                    tell.send("asked").await.unwrap();
                    if takes_head {
                        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await?;
                    }
                    closed(&mut socket).await;
                    tell.send("closed").await.unwrap();
                    Ok(())
                }
            })
            .await;
            let mut source = Source::start(order(&upstream.config("")));
            if takes_head {
                head(&mut source).await;
                assert_eq!(bytes(&mut source).await, "half");
            }
            tokio::select! {
                piece = source.next() => panic!("nothing was to come: {piece:?}"),
                asked = gone.recv() => assert_eq!(asked, Some("asked")),
            }
            assert_eq!(source.stop().await, Facts::default());
            assert_eq!(gone.recv().await, Some("closed"));
        }
    });
}

#[test]
fn an_upstream_stands_still_while_its_answer_is_not_taken() {
    const ALL: u64 = 100 << 20;
    const AHEAD_MAX: u64 = 16 << 20; // What the kernels of both sides may hold, several times over.
    run(async {
        let (written, stands) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
        let (count, tell) = (written.clone(), stands.clone());
        let upstream = Upstream::new(move |mut socket: TcpStream| {
            let (count, tell) = (count.clone(), tell.clone());
            async move {
                socket.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {ALL}\r\n\r\n").as_bytes()).await?;
                let chunk = vec![b'x'; 64 << 10];
                let mut left = ALL as usize;
                while left > 0 {
                    let part = &chunk[..left.min(chunk.len())];
                    let sent = match timeout(Duration::from_millis(100), socket.write(part)).await {
                        Ok(sent) => sent?,
                        Err(_) => {
                            tell.notify_one();
                            socket.write(part).await?
                        }
                    };
                    left -= sent;
                    count.fetch_add(sent as u64, Ordering::Relaxed);
                }
                Ok(())
            }
        })
        .await;
        let mut source = Source::start(order(&upstream.config("")));
        head(&mut source).await;
        let (mut taken, mut largest, mut stood) = (0, 0, 0);
        for _ in 0..3 {
            stands.notified().await;
            stood += 1;
            let ahead = written.load(Ordering::Relaxed) - taken;
            assert!(ahead < AHEAD_MAX, "{ahead} bytes were written and not taken");
            let until = taken + AHEAD_MAX;
            while taken < until {
                let piece = bytes(&mut source).await;
                (taken, largest) = (taken + piece.len() as u64, largest.max(piece.len()));
            }
        }
        while let Some(Piece::Bytes(piece)) = source.next().await.unwrap() {
            (taken, largest) = (taken + piece.len() as u64, largest.max(piece.len()));
        }
        assert_eq!((taken, stood), (ALL, 3));
        assert!(largest <= 128 << 10, "a piece had {largest} bytes");
    });
}

#[test]
fn an_upstream_over_tls_is_read_if_its_certificate_is_good() {
    run(async {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".into()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("url = 'https://localhost:{}/'", listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                if let Ok(mut socket) = acceptor.accept(socket).await {
                    let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret").await;
                    let _ = socket.shutdown().await;
                }
            }
        });
        let trusted = fourfold_trust::trusting(fourfold_trust::authorities(&[authority.der().clone()]).unwrap());
        let mut source = Source::start(order(&url));
        source.running = Running::Http(Exchange::start(order(&url), Some(trusted)));
        assert_eq!(rest(source).await.text(), "secret");
        assert_eq!(all(order(&url)).await.code(), "upstream-unreachable", "nobody knows this authority");
    });
}
