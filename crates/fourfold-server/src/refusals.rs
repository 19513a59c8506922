//! What becomes of a request is counted, and a refusal is a line in the log: from which address, as the limits know it, and of the request only its method
//! and path, never its query, which may be a token.

use std::net::IpAddr;

use fourfold_protocol::{Code, Refusal, StreamName};
use http::{Method, Request, StatusCode, uri::PathAndQuery};

use crate::{
    answer::{Answer, Refused},
    caller::Caller,
    connection::Reply,
    context::Context,
    routes::STREAMS,
    tally::{Tally, Wish},
    trace::Trace,
};

/// What is told of a request, from before it is answered.
pub(crate) struct Told {
    wish: Wish,
    method: Method,
    target: Option<PathAndQuery>,
    /// Who asks, behind whichever proxies are trusted; `None` for those who share an account, as there are too many.
    peer: Option<IpAddr>,
    trace: Trace,
}

impl Told {
    /// An append may be traced from here on.
    pub(crate) fn of<B>(request: &mut Request<B>, caller: &Caller, context: &Context) -> Self {
        let (method, target) = (request.method().clone(), request.uri().path_and_query().cloned());
        let wish = Wish::of(&method, request.uri().path());
        let trace = if wish == Wish::Append { Trace::begin(request, context) } else { Trace::default() };
        Self { wish, method, target, peer: caller.address(), trace }
    }

    /// This is what it got. Of an append that is not acknowledged yet nothing is told.
    pub(crate) fn answered(&self, reply: &mut Reply, tally: &Tally) {
        match reply {
            Reply::Whole(answer) => self.whole(answer, tally),
            Reply::Live(live) => tally.answered(self.wish, live.status()),
            Reply::Appending(_) => {}
        }
    }

    pub(crate) fn whole(&self, answer: &mut Answer, tally: &Tally) {
        self.trace.answered(answer);
        tally.answered(self.wish, answer.status());
        if let Some(Refused(code)) = answer.extensions().get() {
            tally.refused(*code);
            self.log(*code, answer.status());
        }
    }

    fn log(&self, code: Code, status: StatusCode) {
        let path = self.target.as_ref().map_or("/", PathAndQuery::path);
        log(self.method.as_str(), path, code, status.as_u16(), self.peer);
    }
}

/// A message over WebSocket was refused: counted, and a line as of a request.
pub(crate) fn of_message(refusal: &Refusal, stream: &StreamName, peer: Option<IpAddr>, tally: &Tally) {
    tally.refused(refusal.code);
    log("message", &format!("{STREAMS}{}", stream.encoded()), refusal.code, refusal.code.status(), peer);
}

/// What an operator can do something about is told at `info`, what a client has done wrong at `debug`.
fn log(method: &str, path: &str, code: Code, status: u16, peer: Option<IpAddr>) {
    let (code, peer) = (code.as_str(), peer.map(tracing::field::display));
    match status {
        401 | 403 | 429 | 500 | 502.. => tracing::info!(%method, path, code, status, peer, "refused"),
        _ => tracing::debug!(%method, path, code, status, peer, "refused"),
    }
}
