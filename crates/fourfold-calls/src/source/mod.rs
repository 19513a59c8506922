//! Runs a call's target: bytes as they come, no faster than they are taken, and how it ended.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use crate::config::CallConfig;

/// What is to be run.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// By configuration.
    pub(crate) config: Arc<CallConfig>,
    /// What stands behind the call's name in the URL as it was sent, `""` or `"/a/b"`; [`CallConfig::admits`] it.
    pub(crate) rest: String,
    /// Without the parameters that are the server's own; [`CallConfig::admits`] it.
    pub(crate) query: Option<String>,
    /// As the caller sent them: what is passed on is chosen here.
    pub(crate) headers: HeaderMap,
    /// All of it.
    pub(crate) body: Bytes,
    /// The call's.
    pub(crate) id: String,
    /// The caller's idempotency key.
    pub(crate) key: Option<String>,
}

/// What comes from a target.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    /// Exactly once, first.
    Head(Head),
    /// What was there at once, never empty.
    Bytes(Bytes),
}

/// What is known before the first byte of output.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Head {
    /// Of the output; always one that a stream can have.
    pub(crate) content_type: String,
    /// An upstream's.
    pub(crate) status: Option<u16>,
    /// Those of the answer that the configuration keeps; names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

/// How a target ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Facts {
    /// A program's, if it exited.
    pub(crate) exit_code: Option<i32>,
    /// What ended a program, such as `KILL`.
    pub(crate) signal: Option<&'static str>,
    /// The last of what a program wrote to its standard error, if anything.
    pub(crate) stderr: Option<String>,
    /// What the target did wrong although its output came whole: an upstream's status of 400 or above, an exit code, a signal.
    pub(crate) failure: Option<Failure>,
}

/// Why a target did not finish.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    /// Which outcome it is.
    pub(crate) kind: FailureKind,
    /// Stable, as the ending tells it.
    pub(crate) code: &'static str,
    /// One clause.
    pub(crate) text: String,
    /// Of an answer that is no output: a redirect's.
    pub(crate) status: Option<u16>,
    /// Of the same.
    pub(crate) headers: Vec<(String, String)>,
}

/// Which outcome a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// `timed-out`
    Timeout,
    /// `failed`
    Failed,
}

/// A running target. Dropped, it is ended at once.
#[derive(Debug)]
pub(crate) struct Source {}

impl Source {
    /// Begins. Nothing is asked of an upstream before the first [`next`](Self::next).
    pub(crate) fn start(order: Order) -> Self {
        let _ = order;
        todo!()
    }

    /// The next piece; `None` after the last. Reads on only while it is awaited, so whoever waits with the next call slows the target.
    ///
    /// Cancel-safe. Errors: [`Failure`]; then [`stop`](Self::stop) tells the rest.
    pub(crate) async fn next(&mut self) -> Result<Option<Piece>, Failure> {
        todo!()
    }

    /// After `None`: waits until the target has ended, no longer than `total-timeout`.
    pub(crate) async fn end(self) -> Facts {
        todo!()
    }

    /// Ends the target before its time: the connection is closed at once; a program's process group gets TERM, and KILL after `grace`.
    pub(crate) async fn stop(self) -> Facts {
        todo!()
    }
}
