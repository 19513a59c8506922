//! Answers of whoever mounts the server, beside the streams.

use std::sync::Arc;

use bytes::Bytes;
use fourfold_protocol::{Code, Refusal};
use fourfold_server::{Answering, Extra};
use http::{HeaderValue, Request, Response, header};

use crate::harness::Harness;

/// Says back what it was sent.
#[derive(Debug)]
struct Echo;

impl Extra for Echo {
    fn has(&self, path: &str) -> bool {
        path.starts_with("/echo") || path.starts_with("/v1/stream/") || path == "/"
    }

    fn answer(&self, request: Request<Bytes>) -> Answering<'_> {
        Box::pin(async move {
            if request.uri().path() == "/echo/refused" {
                return Err(Refusal::new(Code::NotFound, "not this one"));
            }
            let mut answer = Response::new(request.into_body());
            answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/x-echo"));
            Ok(answer)
        })
    }

    fn link(&self) -> Option<(&'static str, &'static str)> {
        Some(("/echo", "An echo"))
    }
}

#[test]
fn what_is_mounted_answers_at_its_paths_and_nowhere_else() {
    let harness = Harness::with(|settings| {
        settings.extra = Some(Arc::new(Echo));
        settings.body_bytes_max = 100;
    });
    let answer = harness.ask("POST", "/echo", &[], b"hello").expect(200);
    assert_eq!((answer.text().as_str(), answer.header("content-type")), ("hello", "text/x-echo"));
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "as every answer");
    harness.get("/echo/refused").problem(404, "not-found");
    harness.get("/elsewhere").problem(404, "not-found");
    harness.ask("POST", "/echo", &[], &[b'x'; 101]).problem(413, "body-too-large");
    harness.get("/v1/stream/none").problem(404, "stream-not-found");
    assert!(harness.get("/").expect(200).text().contains(r#"<a class="extra" href="/echo">An echo</a>"#));
}
