//! Runs a call's target: bytes as they come, no faster than they are taken, and how it ended.

mod command;
mod connection;
mod http;
mod process;
#[cfg(test)]
mod tests;

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use ::http::HeaderMap;
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use self::{command::Process, http::Exchange};
use crate::config::{CallConfig, Target};

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

/// A running target. Dropped, it is ended at once, a program's process group by KILL.
#[derive(Debug)]
pub(crate) struct Source {
    running: Running,
    config: Arc<CallConfig>,
    /// When `total-timeout` ends.
    total_at: Instant,
    /// When the present silence has been too long; it is counted only while somebody waits for the target, never while it waits for us.
    idle_at: Option<Instant>,
    is_over: bool,
}

#[derive(Debug)]
enum Running {
    Http(Exchange),
    Command(Process),
}

/// What is new of a target.
#[derive(Debug)]
enum Event {
    Piece(Piece),
    /// Nothing of its output, but it lives, or its [`Running::deadline`] is another.
    Alive,
    End,
}

impl Source {
    /// Begins. Nothing is asked of an upstream and no program is started before the first [`next`](Self::next).
    pub(crate) fn start(order: Order) -> Self {
        let config = order.config.clone();
        let running = match &config.target {
            Target::Url(_) => Running::Http(Exchange::start(order, None)),
            Target::Command(_) => Running::Command(Process::start(order)),
        };
        Self { running, total_at: Instant::now() + config.total_timeout, config, idle_at: None, is_over: false }
    }

    /// The next piece; `None` after the last. Reads on only while it is awaited, so whoever waits with the next call slows the target.
    ///
    /// Cancel-safe. Errors: [`Failure`]; then [`stop`](Self::stop) tells the rest.
    pub(crate) async fn next(&mut self) -> Result<Option<Piece>, Failure> {
        while !self.is_over {
            if Instant::now() >= self.total_at {
                return Err(self.too_late()); // Before a look at the target: it may always have something.
            }
            let idle = self
                .running
                .may_idle()
                .then(|| *self.idle_at.get_or_insert_with(|| Instant::now() + self.config.idle_timeout));
            let last = self.running.deadline();
            let until = [Some(self.total_at), idle, last].into_iter().flatten().min().unwrap_or(self.total_at);
            match timeout_at(until, poll_fn(|cx| self.running.poll(cx))).await {
                Ok(Ok(Event::Piece(piece))) => {
                    self.idle_at = None;
                    return Ok(Some(piece));
                }
                Ok(Ok(Event::Alive)) => self.idle_at = None,
                Ok(Ok(Event::End)) => self.is_over = true,
                Ok(Err(failure)) => return Err(failure),
                Err(_) if until == self.total_at => return Err(self.too_late()),
                Err(_) if Some(until) == last => self.is_over = true,
                Err(_) => {
                    let text = format!("the target has been silent for {:?}", self.config.idle_timeout);
                    return Err(Failure::timeout("idle-timeout", text));
                }
            }
        }
        Ok(None)
    }

    /// After `None`: completes when the target has ended, or `total-timeout` has passed. Cancel-safe.
    pub(crate) async fn ended(&mut self) {
        if let Running::Command(process) = &mut self.running {
            let _ = timeout_at(self.total_at, process.exit()).await; // Late or not, [`end`](Self::end) tells.
        }
    }

    /// After `None`: waits until the target has ended, no longer than `total-timeout`.
    pub(crate) async fn end(self) -> Facts {
        let late = self.too_late();
        match self.running {
            Running::Http(exchange) => exchange.end(),
            Running::Command(mut process) => match timeout_at(self.total_at, process.exit()).await {
                Ok(()) => process.end().await,
                Err(_) => Facts { failure: Some(late), ..process.stop().await },
            },
        }
    }

    /// Ends the target before its time: the connection is closed at once; a program's process group gets TERM, and KILL after `grace`.
    pub(crate) async fn stop(self) -> Facts {
        match self.running {
            Running::Http(_) => Facts::default(),
            Running::Command(process) => process.stop().await,
        }
    }

    fn too_late(&self) -> Failure {
        Failure::timeout("total-timeout", format!("the call has taken {:?}", self.config.total_timeout))
    }
}

impl Running {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Failure>> {
        match self {
            Self::Http(exchange) => exchange.poll(cx),
            Self::Command(process) => process.poll(cx),
        }
    }

    /// Whether silence counts: an upstream that has not answered yet and a program that has exited have times of their own.
    fn may_idle(&self) -> bool {
        match self {
            Self::Http(exchange) => exchange.has_begun(),
            Self::Command(process) => process.output_until().is_none(),
        }
    }

    /// When its output ends even if it does not say so.
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Http(_) => None,
            Self::Command(process) => process.output_until(),
        }
    }
}

impl Failure {
    fn failed(code: &'static str, text: String) -> Self {
        Self { kind: FailureKind::Failed, code, text, status: None, headers: Vec::new() }
    }

    fn timeout(code: &'static str, text: String) -> Self {
        Self { kind: FailureKind::Timeout, ..Self::failed(code, text) }
    }
}
