//! What a call may do, by configuration: `[calls.NAME]`. A [`CallConfig`] that exists is checked: addresses, programs and headers come from here and
//! from nowhere else.
//!
//! To add a key: a field in `typed.rs`, what it means here.

pub mod origins;
mod rest;
mod typed;
mod units;

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use http::{HeaderName, HeaderValue, Method};
use serde::Deserialize;
use url::Url;

pub use rest::Refused;

use crate::limits::{CALLS_LIMIT, CALLS_MAX_DEFAULT, NAME_BYTES_MAX, NAMES_MAX};

/// Everything that is configured of calls. Without one there are none.
#[derive(Clone, Debug)]
pub struct Options {
    /// By name; see [`is_call_name`].
    pub calls: BTreeMap<String, CallConfig>,
    /// How many may run at once, all together.
    pub calls_max: usize,
    /// How many of one caller may run at once.
    pub calls_per_caller: usize,
}

/// One call's configuration, checked and with its defaults.
///
/// It is read by serde from the keys in kebab case, each with its unit: `url = "http://127.0.0.1:9000/report"`, `idle-timeout = "20s"`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "typed::Typed")]
pub struct CallConfig {
    /// What it runs.
    pub target: Target,
    /// Whether the request's `/rest` and its query are passed on.
    pub rest: bool,
    /// Pages of other hosts that may begin it: origins such as `https://app.example`, or `*`.
    pub origins: Vec<String>,
    /// The longest silence of a target that has begun: bytes of its output, or of a program's standard error, end it.
    pub idle_timeout: Duration,
    /// The longest time of a call in all.
    pub total_timeout: Duration,
    /// The largest body of its request.
    pub body_bytes_max: usize,
    /// The largest record: a JSON value, an event or a line that is longer ends the call.
    pub portion_bytes_max: usize,
    /// The most bytes of output.
    pub bytes_max: u64,
    /// How many calls of this name may run at once; `None`: as many as of all.
    pub at_once: Option<usize>,
    /// How many calls of this name one caller may have running; `None`: as many as of all.
    pub per_caller: Option<usize>,
    /// How long its stream and its idempotency key are kept.
    pub keep: Duration,
    /// Cancelled when nobody has watched for so long; `None`: never.
    pub cancel_unwatched: Option<Duration>,
}

/// What a call runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// An HTTP server.
    Url(Upstream),
    /// A local program.
    Command(Program),
}

/// An HTTP server and what is said to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// `http` or `https`, with a host, without credentials and fragment.
    pub url: Url,
    /// The request's.
    pub method: Method,
    /// Headers of the caller's request that are passed on.
    pub pass_headers: Vec<HeaderName>,
    /// Headers that are added to every request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Headers of the answer that the ending tells.
    pub keep_headers: Vec<HeaderName>,
    /// For the host's address and the connection, TLS included.
    pub connect_timeout: Duration,
    /// From the connection to the head of the answer.
    pub head_timeout: Duration,
}

/// A local program and what it is given.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// The program and its arguments; never empty.
    pub command: Vec<String>,
    /// All of its environment but for `PATH` and `FOURFOLD_CALL_*`.
    pub environment: BTreeMap<String, Secret>,
    /// Where it runs; `None`: where the server does.
    pub directory: Option<PathBuf>,
    /// Between TERM and KILL.
    pub grace: Duration,
    /// How its standard output becomes records.
    pub portions: Portions,
    /// Of its standard output.
    pub content_type: String,
}

/// How a program's output becomes records. JSON and event streams are always cut by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Portions {
    /// Each line with its line break is a record.
    #[default]
    Lines,
    /// What was written at once is a record.
    Bytes,
}

/// A text that no log shows.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

/// Why a configuration cannot be used: one clause that names the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(crate) String);

/// Whether a text can name a call: 1 to 64 of a-z, A-Z, 0-9, `.`, `_` and `-`, and not only dots.
#[must_use]
pub fn is_call_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !text.bytes().all(|b| b == b'.') // A URL's dot segments never reach the server.
}

impl Options {
    /// Looks at what no single call can be blamed for. Errors: the first fault.
    pub fn check(&self) -> Result<(), ConfigError> {
        let fault = |why: String| Err(ConfigError(why));
        if let Some(name) = self.calls.keys().find(|name| !is_call_name(name)) {
            return fault(format!(
                "calls: '{}' is no name; write 1 to {NAME_BYTES_MAX} of a-z, A-Z, 0-9, '.', '_' and '-'",
                name.escape_debug()
            ));
        }
        if self.calls.len() > NAMES_MAX {
            return fault(format!("calls: {} are configured, at most {NAMES_MAX} can be", self.calls.len()));
        }
        for (key, count) in [("calls-max", self.calls_max), ("calls-per-caller", self.calls_per_caller)] {
            if !(1..=CALLS_LIMIT).contains(&count) {
                return fault(format!("{key}: {count} is out of bounds; give 1 to {CALLS_LIMIT}"));
            }
        }
        Ok(())
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { calls: BTreeMap::new(), calls_max: CALLS_MAX_DEFAULT, calls_per_caller: CALLS_MAX_DEFAULT }
    }
}

impl CallConfig {
    /// `"url"` or `"command"`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.target {
            Target::Url(_) => "url",
            Target::Command(_) => "command",
        }
    }

    /// Whether a request's `/rest` and query may be passed on; to be asked before the call is begun. `rest` is as the request has it, percent-encoded.
    ///
    /// Errors: [`Refused`], the caller's fault.
    pub fn admits(&self, rest: &str, query: Option<&str>) -> Result<(), Refused> {
        rest::check(self.rest, rest, query)
    }

    /// Whether a page of `origin` may begin it, on a server that the browser knows as `host`.
    #[must_use]
    pub fn admits_origin(&self, origin: &str, host: Option<&str>) -> bool {
        origins::admits(&self.origins, origin, host)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}
