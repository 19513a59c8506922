//! Sources against real upstreams and real programs.

mod command;
mod http;
mod upstream;

use std::{sync::Arc, time::Duration};

use ::http::HeaderMap;
use bytes::Bytes;
use tokio::{runtime::Builder, time::timeout};

use super::*;

/// Nothing here takes longer, however busy the machine is.
const DEADLINE: Duration = Duration::from_secs(60);

/// On a runtime like that of the calls.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(DEADLINE, test).await.expect("the test ends within its deadline") })
}

/// A call without a body, configured by these lines of TOML.
fn order(config: &str) -> Order {
    Order {
        config: Arc::new(toml::from_str(config).unwrap()),
        rest: String::new(),
        query: None,
        headers: HeaderMap::new(),
        body: Bytes::new(),
        id: "call-1".into(),
        key: None,
    }
}

/// All that a source gives.
#[derive(Debug)]
struct Outcome {
    head: Option<Head>,
    pieces: Vec<Bytes>,
    end: Result<Facts, (Failure, Facts)>,
}

impl Outcome {
    fn text(&self) -> String {
        String::from_utf8(self.pieces.concat()).unwrap()
    }

    /// The code of what went wrong in the midst.
    fn code(&self) -> &'static str {
        self.end.as_ref().expect_err("something went wrong").0.code
    }

    fn facts(&self) -> &Facts {
        self.end.as_ref().expect("it came whole")
    }
}

async fn all(order: Order) -> Outcome {
    rest(Source::start(order)).await
}

async fn rest(mut source: Source) -> Outcome {
    let (mut head, mut pieces) = (None, Vec::new());
    loop {
        match source.next().await {
            Ok(Some(Piece::Head(first))) => assert_eq!(head.replace(first), None, "there is one head"),
            Ok(Some(Piece::Bytes(bytes))) => {
                assert!(head.is_some(), "the head comes first");
                assert!(!bytes.is_empty());
                pieces.push(bytes);
            }
            Ok(None) => return Outcome { head, pieces, end: Ok(source.end().await) },
            Err(failure) => return Outcome { head, pieces, end: Err((failure, source.stop().await)) },
        }
    }
}

/// The next bytes of a source.
async fn bytes(source: &mut Source) -> Bytes {
    match source.next().await {
        Ok(Some(Piece::Bytes(bytes))) => bytes,
        other => panic!("bytes were to come: {other:?}"),
    }
}

/// The head of a source.
async fn head(source: &mut Source) -> Head {
    match source.next().await {
        Ok(Some(Piece::Head(head))) => head,
        other => panic!("the head was to come: {other:?}"),
    }
}
