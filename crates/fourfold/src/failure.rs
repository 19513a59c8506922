//! How an answer that is not a success is understood: as passing (try again) or as a refusal (say it and stop).

use std::time::Duration;

use reqwest::{Response, StatusCode, header::HeaderMap};
use serde::Deserialize;

use crate::{client::header, trust};

/// Why a request did not do what it was for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The same may succeed later: the connection was cut or refused, or the server said so.
    #[error("{why}")]
    Passing {
        why: String,
        /// Not before so long.
        after: Option<Duration>,
    },
    /// It will not.
    #[error("{0}")]
    Refused(Problem),
    /// TLS cannot be spoken with the server, in words that say what to do.
    #[error("{0}")]
    Tls(String),
    /// The answer is not what the protocol says.
    #[error("the server's answer is not understood: {0}")]
    Garbled(String),
}

impl Failure {
    pub(crate) fn cut(why: impl std::fmt::Display) -> Self {
        Self::Passing { why: why.to_string(), after: None }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let server = error.url().map(|url| url.origin().ascii_serialization()).unwrap_or_default();
        if let Some(why) = trust::explained(&error, &server) {
            return Self::Tls(why);
        }
        // The cause says more than the wrapper: "connection refused" rather than "error sending request".
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        Self::cut(cause)
    }
}

/// What a server says when it refuses, as far as a command needs it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    pub(crate) code: String,
    title: String,
    pub(crate) detail: String,
    /// Whether the same may succeed later.
    pub(crate) retry: bool,
    /// With a 410: from where the stream can be read.
    pub(crate) oldest_offset: Option<String>,
}

impl Problem {
    /// One that the server told in another way.
    pub(crate) fn new(status: u16, code: &str, detail: &str) -> Self {
        Self { status, code: code.to_owned(), detail: detail.to_owned(), ..Self::default() }
    }

    fn read(status: u16, body: &[u8]) -> Self {
        let mut problem: Self = serde_json::from_slice(body).unwrap_or_default();
        problem.status = status;
        problem
    }

    /// Whether it is worth trying again, by what it says or by its status.
    pub(crate) fn is_passing(&self) -> bool {
        self.retry || is_passing(self.status)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let said = if self.detail.is_empty() { &self.title } else { &self.detail };
        match (said.is_empty(), self.code.is_empty()) {
            (true, _) => write!(f, "the server answered {}", self.status),
            (false, true) => write!(f, "{said} ({})", self.status),
            (false, false) => write!(f, "{said} ({} {})", self.status, self.code),
        }
    }
}

/// 408, 429 and all that the server says about itself.
fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

/// Success as it is; anything else understood.
pub(crate) async fn checked(mut response: Response) -> Result<Response, Failure> {
    let status = response.status();
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        return Ok(response);
    }
    let after = retry_after(response.headers());
    let mut body = Vec::new();
    while body.len() < PROBLEM_BYTES_MAX {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            _ => break, // The status alone says enough.
        }
    }
    Err(refused(Problem::read(status.as_u16(), &body), after))
}

/// A refusal by what it says.
pub(crate) fn refused(problem: Problem, after: Option<Duration>) -> Failure {
    if problem.is_passing() { Failure::Passing { why: problem.to_string(), after } } else { Failure::Refused(problem) }
}

/// `Retry-After` in seconds; a date is not worth a calendar here.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    header(headers, "retry-after")?.parse().ok().map(Duration::from_secs)
}

/// The longest problem that is read; a server of ours writes less than 1 KiB.
const PROBLEM_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_the_server_said() {
        let body =
            br#"{"title":"t","detail":"there is no such stream","code":"stream-not-found","status":404,"retry":false}"#;
        assert_eq!(Problem::read(404, body).to_string(), "there is no such stream (404 stream-not-found)");
        assert_eq!(Problem::read(418, b"<html>").to_string(), "the server answered 418");
        for status in [408, 429, 500, 503, 507] {
            assert!(Problem::read(status, b"").is_passing(), "{status}");
        }
        assert!(!Problem::read(409, b"").is_passing());
    }
}
