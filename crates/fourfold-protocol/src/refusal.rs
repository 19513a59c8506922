//! Refusals: every error that a client can see, each with a stable code.
//!
//! The table below is the one place where a code gets its status, its title and whether a retry can help; the page
//! `docs/protocol.md` is checked against it by a test. To add one, add a line.

use std::fmt;

use serde_json::{Map, Value, json};

macro_rules! codes {
    ($($name:ident = $code:literal, $status:literal, $retry:literal, $title:literal;)*) => {
        /// The stable name of a refusal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $(#[doc = $title] $name,)* }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// What stands in `code` and in a WebSocket close reason.
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(Self::$name => $code),* } }

            /// The HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 { match self { $(Self::$name => $status),* } }

            /// One clause for people, the same for every refusal with this code.
            #[must_use]
            pub const fn title(self) -> &'static str { match self { $(Self::$name => $title),* } }

            /// Whether the same request may succeed later.
            #[must_use]
            pub const fn retry(self) -> bool { match self { $(Self::$name => $retry),* } }
        }
    };
}

codes! {
    InvalidName = "invalid-name", 400, false, "the path is not a stream name";
    InvalidOffset = "invalid-offset", 400, false, "the offset is not one that this server hands out";
    OffsetPastTail = "offset-past-tail", 400, false, "the offset lies past the end of the stream";
    InvalidForkOffset = "invalid-fork-offset", 400, false, "the source has no such place to fork at";
    InvalidQuery = "invalid-query", 400, false, "a query parameter cannot be understood";
    InvalidHeader = "invalid-header", 400, false, "a header cannot be understood";
    InvalidJson = "invalid-json", 400, false, "the body is not JSON";
    InvalidUtf8 = "invalid-utf8", 400, false, "the body is not UTF-8";
    InvalidMessage = "invalid-message", 400, false, "the WebSocket message cannot be understood";
    EmptyAppend = "empty-append", 400, false, "there is nothing to append";
    MissingContentType = "missing-content-type", 400, false, "an append names its content type";
    UnexpectedBody = "unexpected-body", 400, false, "a read has no body";
    InvalidProducerEpoch = "invalid-producer-epoch", 400, false, "a new producer epoch starts at sequence 0";
    InvalidUpgrade = "invalid-upgrade", 400, false, "the WebSocket handshake is not complete";
    InvalidSubscription = "invalid-subscription", 400, false, "the subscription or what is asked of it cannot be understood";
    WebhookUrlRejected = "webhook-url-rejected", 400, false, "the webhook URL is not one to deliver to";
    BadRequest = "bad-request", 400, false, "the request is not HTTP";
    TlsRequired = "tls-required", 400, false, "this port speaks TLS";
    MissingToken = "missing-token", 401, false, "this needs a token";
    InvalidToken = "invalid-token", 401, false, "the token is missing, or not good for this";
    ExpiredToken = "expired-token", 401, false, "the token has expired";
    NotPermitted = "not-permitted", 403, false, "neither a rule nor the token permits it";
    StaleProducerEpoch = "stale-producer-epoch", 403, false, "another producer has taken over";
    OriginNotAllowed = "origin-not-allowed", 403, false, "a page of this origin may not do this";
    CrossOriginCall = "cross-origin-call", 403, false, "a page of another origin may not begin this call";
    CallsOnly = "calls-only", 403, false, "only calls write to the streams below calls/";
    NotFound = "not-found", 404, false, "nothing is at this URL";
    StreamNotFound = "stream-not-found", 404, false, "there is no such stream";
    SubscriptionNotFound = "subscription-not-found", 404, false, "there is no such subscription";
    CallNotFound = "call-not-found", 404, false, "there is no such call";
    ReservedName = "reserved-name", 404, false, "the path is reserved";
    MethodNotAllowed = "method-not-allowed", 405, false, "the method is not allowed here";
    RequestTimeout = "request-timeout", 408, true, "the request did not arrive in time";
    StreamExists = "stream-exists", 409, false, "the stream exists with another configuration";
    DeletedWithForks = "deleted-with-forks", 409, false, "the stream was deleted, and forks of it live";
    ForkTooDeep = "fork-too-deep", 409, false, "the chain of forks is too long";
    StreamClosed = "stream-closed", 409, false, "the stream is closed";
    ContentTypeMismatch = "content-type-mismatch", 409, false, "the content type is not the stream's";
    SequenceRegression = "sequence-regression", 409, false, "Stream-Seq must grow";
    ProducerGap = "producer-gap", 409, false, "a producer's sequence has a hole";
    SubscriptionExists = "subscription-exists", 409, false, "the subscription exists with another configuration";
    Fenced = "fenced", 409, false, "the wake is over";
    AlreadyClaimed = "already-claimed", 409, true, "another worker holds the lease";
    NothingPending = "nothing-pending", 409, true, "there is nothing to claim";
    CallEnded = "call-ended", 409, false, "the call has ended";
    StreamGone = "stream-gone", 410, false, "the stream was deleted, and only its forks can be read";
    OffsetTrimmed = "offset-trimmed", 410, false, "retention has dropped the record at this offset";
    OffsetOfAnotherEpoch = "offset-of-another-epoch", 410, false, "the offset belongs to another life of the stream";
    BodyTooLarge = "body-too-large", 413, false, "the body is too large";
    RecordTooLarge = "record-too-large", 413, false, "a record is too large";
    BatchTooLarge = "batch-too-large", 413, false, "too many records come at once";
    UrlTooLong = "url-too-long", 414, false, "the URL is too long";
    IdempotencyKeyReused = "idempotency-key-reused", 422, false, "the key was used for another request";
    UpgradeRequired = "upgrade-required", 426, false, "this WebSocket version is not spoken";
    TooManyRequests = "too-many-requests", 429, true, "requests or appends come too fast";
    TooManyStreams = "too-many-streams", 429, true, "there are as many streams as there may be";
    TooManyBytes = "too-many-bytes", 429, true, "the streams of one owner take as much as they may";
    TooManyConnections = "too-many-connections", 429, true, "too many connections are open at once";
    TooManyCalls = "too-many-calls", 429, true, "too many calls run at once";
    HeadersTooLarge = "headers-too-large", 431, false, "the headers are too large";
    Internal = "internal", 500, true, "the server failed";
    UnknownTransferCoding = "unknown-transfer-coding", 501, false, "the body comes in a coding that is not spoken";
    AccessUnavailable = "access-unavailable", 503, true, "who asks cannot be found out now";
    Overloaded = "overloaded", 503, true, "the server has too much to do";
    Draining = "draining", 503, true, "the server is about to stop";
    StorageFull = "storage-full", 507, true, "the disk is full";
}

/// An error that a client can see: what was wrong, and what to do.
///
/// `detail` is about this one request and is meant for people; `members` are further fields of the problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Which one.
    pub code: Code,
    /// What was wrong with this request, and what to do about it.
    pub detail: String,
    /// Extension members, such as `oldestOffset`.
    pub members: Vec<(&'static str, Value)>,
}

impl Refusal {
    /// A refusal with its explanation.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), members: Vec::new() }
    }

    /// Adds a member to the problem.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.members.push((name, value.into()));
        self
    }

    /// The problem object of RFC 9457.
    #[must_use]
    pub fn problem(&self) -> Value {
        let mut problem = Map::new();
        problem.insert("type".into(), json!(format!("urn:fourfold:problem:{}", self.code.as_str())));
        problem.insert("title".into(), json!(self.code.title()));
        problem.insert("status".into(), json!(self.code.status()));
        problem.insert("code".into(), json!(self.code.as_str()));
        problem.insert("detail".into(), json!(self.detail));
        problem.insert("retry".into(), json!(self.code.retry()));
        for (name, value) in &self.members {
            problem.insert((*name).into(), value.clone());
        }
        Value::Object(problem)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_problem_table_is_true() {
        let page = include_str!("../../../docs/protocol.md");
        let (_, rest) = page.split_once("<!-- problems: generated").expect("the page has the mark");
        let (table, _) = rest.split_once("<!-- /problems -->").expect("the page has the end mark");
        let (_, table) = table.split_once("-->\n").expect("the mark ends");
        let mut expected = String::from("| status | `code` | means | retry |\n|---|---|---|---|\n");
        for code in Code::ALL {
            let retry = if code.retry() { "yes" } else { "no" };
            expected += &format!("| {} | `{}` | {} | {retry} |\n", code.status(), code.as_str(), code.title());
        }
        assert_eq!(table, expected, "docs/protocol.md: replace the table of problems by\n{expected}");
    }
}
