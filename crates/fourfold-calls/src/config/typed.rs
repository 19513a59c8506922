//! `[calls.NAME]` as it was typed, and how it becomes what it means: defaults filled in, bounds checked, keys of the other kind refused.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use fourfold_protocol::record::is_content_type;
use http::{HeaderName, HeaderValue, Method, header};
use serde::Deserialize;
use url::Url;

use super::{
    CallConfig, ConfigError, Portions, Program, Secret, Target, Upstream, origins,
    units::{Size, Span},
};
use crate::limits::{
    BODY_BYTES_LIMIT, BYTES_LIMIT, CALLS_LIMIT, KEEP_MAX, NAMED_MAX, PORTION_BYTES_LIMIT, TIMEOUT_MAX,
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Typed {
    url: Option<String>,
    method: Option<String>,
    pass_headers: Option<Vec<String>>,
    headers: Option<BTreeMap<String, Secret>>,
    keep_headers: Option<Vec<String>>,
    connect_timeout: Option<Span>,
    head_timeout: Option<Span>,

    command: Option<Vec<String>>,
    environment: Option<BTreeMap<String, Secret>>,
    directory: Option<PathBuf>,
    grace: Option<Span>,
    portions: Option<Portions>,
    content_type: Option<String>,

    #[serde(default)]
    rest: bool,
    #[serde(default)]
    origins: Vec<String>,
    idle_timeout: Option<Span>,
    total_timeout: Option<Span>,
    body_bytes_max: Option<Size>,
    portion_bytes_max: Option<Size>,
    bytes_max: Option<Size>,
    at_once: Option<usize>,
    per_caller: Option<usize>,
    keep: Option<Span>,
    cancel_unwatched: Option<Span>,
}

/// What a request says of itself; never credentials.
const PASSED_DEFAULT: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::ACCEPT, header::ACCEPT_LANGUAGE, header::USER_AGENT];

/// Of one connection, or written by the server itself: what a caller says there is not for the upstream.
const OURS: [&str; 17] = [
    "accept-encoding", // An answer is kept as it comes: it must not be compressed.
    "connection",
    "content-length",
    "expect",
    "fourfold-call",
    "host",
    "http2-settings",
    "idempotency-key",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

impl TryFrom<Typed> for CallConfig {
    type Error = ConfigError;

    fn try_from(mut typed: Typed) -> Result<Self, ConfigError> {
        let target = match (typed.url.take(), typed.command.take()) {
            (Some(url), None) => Target::Url(typed.upstream(&url)?),
            (None, Some(command)) => Target::Command(typed.program(command)?),
            (Some(_), Some(_)) => return Err(fault("url and command exclude each other: a call has one target")),
            (None, None) => return Err(fault("give url = \"http://…\" or command = [\"program\", …]")),
        };
        Ok(Self {
            target,
            rest: typed.rest,
            origins: {
                few("origins", typed.origins.len())?;
                origins::check(typed.origins)?
            },
            idle_timeout: timeout("idle-timeout", typed.idle_timeout, 120)?,
            total_timeout: timeout("total-timeout", typed.total_timeout, 3_600)?,
            body_bytes_max: memory("body-bytes-max", typed.body_bytes_max, BODY_BYTES_LIMIT)?,
            portion_bytes_max: memory("portion-bytes-max", typed.portion_bytes_max, PORTION_BYTES_LIMIT)?,
            bytes_max: size("bytes-max", typed.bytes_max, 1 << 30, BYTES_LIMIT)?,
            at_once: count("at-once", typed.at_once)?,
            per_caller: count("per-caller", typed.per_caller)?,
            keep: span("keep", typed.keep, Duration::from_secs(86_400), SECOND, KEEP_MAX)?,
            cancel_unwatched: typed
                .cancel_unwatched
                .map(|typed| span("cancel-unwatched", Some(typed), SECOND, SECOND, TIMEOUT_MAX))
                .transpose()?,
        })
    }
}

impl Typed {
    fn upstream(&mut self, url: &str) -> Result<Upstream, ConfigError> {
        only(
            "url",
            "command",
            &[
                ("environment", self.environment.is_some()),
                ("directory", self.directory.is_some()),
                ("grace", self.grace.is_some()),
                ("portions", self.portions.is_some()),
                ("content-type", self.content_type.is_some()),
            ],
        )?;
        let method = self.method.as_deref().unwrap_or("POST");
        let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        let method = methods
            .into_iter()
            .find(|known| known.as_str() == method)
            .ok_or_else(|| fault(format!("method: '{method}' is not one of GET, POST, PUT, PATCH, DELETE")))?;
        let pass_headers = match self.pass_headers.take() {
            Some(names) => header_names("pass-headers", names)?,
            None => PASSED_DEFAULT.to_vec(),
        };
        let keep_headers = header_names("keep-headers", self.keep_headers.take().unwrap_or_default())?;
        let headers = self.headers.take().unwrap_or_default();
        few("headers", headers.len())?;
        let headers = headers
            .into_iter()
            .map(|(name, value)| {
                let mut value = HeaderValue::from_str(&value.0)
                    .map_err(|_| fault(format!("headers: the value of '{name}' cannot stand in a header")))?;
                value.set_sensitive(true); // Such as an upstream's token: no log shows it.
                Ok((header_name("headers", name)?, value))
            })
            .collect::<Result<Vec<_>, ConfigError>>()?;
        if let Some(ours) = pass_headers.iter().chain(headers.iter().map(|(name, _)| name)).find(|name| is_ours(name)) {
            return Err(fault(format!("'{ours}' is the server's own header towards the upstream")));
        }
        Ok(Upstream {
            url: parse_url(url)?,
            method,
            pass_headers,
            headers,
            keep_headers,
            connect_timeout: timeout("connect-timeout", self.connect_timeout, 5)?,
            head_timeout: timeout("head-timeout", self.head_timeout, 60)?,
        })
    }

    fn program(&mut self, command: Vec<String>) -> Result<Program, ConfigError> {
        only(
            "command",
            "url",
            &[
                ("method", self.method.is_some()),
                ("pass-headers", self.pass_headers.is_some()),
                ("headers", self.headers.is_some()),
                ("keep-headers", self.keep_headers.is_some()),
                ("connect-timeout", self.connect_timeout.is_some()),
                ("head-timeout", self.head_timeout.is_some()),
            ],
        )?;
        if command.first().is_none_or(String::is_empty) {
            return Err(fault("command: give the program and its arguments"));
        }
        let environment = self.environment.take().unwrap_or_default();
        few("environment", environment.len())?;
        if command.iter().chain(environment.values().map(|value| &value.0)).any(|text| text.contains('\0')) {
            return Err(fault("command, environment: no program can be given a NUL"));
        }
        if let Some(name) = environment.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return Err(fault(format!("environment: '{}' is no name of a variable", name.escape_debug())));
        }
        if let Some(name) = environment.keys().find(|name| name.starts_with("FOURFOLD_CALL_")) {
            return Err(fault(format!("environment: '{name}' is set by the server")));
        }
        let content_type = self.content_type.take().unwrap_or_else(|| "text/plain; charset=utf-8".into());
        if !is_content_type(&content_type) {
            return Err(fault(format!("content-type: '{}' is none", content_type.escape_debug())));
        }
        Ok(Program {
            command,
            environment,
            directory: self.directory.take(),
            grace: span("grace", self.grace, Duration::from_secs(5), Duration::ZERO, Duration::from_secs(3_600))?,
            portions: self.portions.unwrap_or_default(),
            content_type,
        })
    }
}

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn fault(why: impl Into<String>) -> ConfigError {
    ConfigError(why.into())
}

fn only(kind: &str, other: &str, keys: &[(&str, bool)]) -> Result<(), ConfigError> {
    match keys.iter().find(|(_, given)| *given) {
        Some((key, _)) => Err(fault(format!("{key} belongs to a {other}, this call has a {kind}"))),
        None => Ok(()),
    }
}

fn parse_url(text: &str) -> Result<Url, ConfigError> {
    let bad = |why: &str| fault(format!("url: {why}"));
    let url = Url::parse(text).map_err(|e| fault(format!("url: '{text}' is none: {e}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("it begins with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("it has credentials; write headers = { Authorization = \"…\" }"));
    }
    if url.host_str().is_none_or(str::is_empty) || url.port_or_known_default().is_none_or(|port| port == 0) {
        return Err(bad("it needs a host and a port that can be connected to"));
    }
    if url.fragment().is_some() {
        return Err(bad("it has a fragment, which no server sees"));
    }
    Ok(url)
}

fn is_ours(name: &HeaderName) -> bool {
    OURS.contains(&name.as_str())
}

fn header_name(key: &str, name: String) -> Result<HeaderName, ConfigError> {
    HeaderName::try_from(&name).map_err(|_| fault(format!("{key}: '{}' is no header's name", name.escape_debug())))
}

fn header_names(key: &str, names: Vec<String>) -> Result<Vec<HeaderName>, ConfigError> {
    few(key, names.len())?;
    names.into_iter().map(|name| header_name(key, name)).collect()
}

fn few(key: &str, given: usize) -> Result<(), ConfigError> {
    if given <= NAMED_MAX {
        Ok(())
    } else {
        Err(fault(format!("{key}: {given} are given, at most {NAMED_MAX} can be")))
    }
}

fn timeout(key: &str, typed: Option<Span>, default_secs: u64) -> Result<Duration, ConfigError> {
    span(key, typed, Duration::from_secs(default_secs), Duration::from_millis(1), TIMEOUT_MAX)
}

fn span(
    key: &str,
    typed: Option<Span>,
    default: Duration,
    min: Duration,
    max: Duration,
) -> Result<Duration, ConfigError> {
    match typed.map_or(default, |typed| typed.0) {
        short if short < min => Err(fault(format!("{key}: {short:?} is too short; at least {min:?}"))),
        long if long > max => Err(fault(format!("{key}: {long:?} is too long; at most {max:?}"))),
        fits => Ok(fits),
    }
}

fn memory(key: &str, typed: Option<Size>, max: u64) -> Result<usize, ConfigError> {
    size(key, typed, 1 << 20, max).map(|size| usize::try_from(size).expect("the limits fit into memory"))
}

fn size(key: &str, typed: Option<Size>, default: u64, max: u64) -> Result<u64, ConfigError> {
    match typed.map_or(default, |typed| typed.0) {
        size if (1..=max).contains(&size) => Ok(size),
        size => Err(fault(format!("{key}: {size} bytes is out of bounds; give 1 to {max}"))),
    }
}

fn count(key: &str, typed: Option<usize>) -> Result<Option<usize>, ConfigError> {
    match typed {
        Some(count) if !(1..=CALLS_LIMIT).contains(&count) => {
            Err(fault(format!("{key}: {count} is out of bounds; give 1 to {CALLS_LIMIT}")))
        }
        count => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::*;

    fn read(text: &str) -> Result<CallConfig, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn an_url_is_a_whole_configuration() {
        let config = read("url = 'http://127.0.0.1:9000/report?format=json'").unwrap();
        assert_eq!(config.kind(), "url");
        let Target::Url(upstream) = &config.target else { panic!("a url is an upstream") };
        assert_eq!(upstream.method, Method::POST);
        assert_eq!(upstream.pass_headers, PASSED_DEFAULT);
        assert_eq!((upstream.connect_timeout, upstream.head_timeout), (5 * SECOND, 60 * SECOND));
        assert_eq!((config.idle_timeout, config.total_timeout), (120 * SECOND, 3_600 * SECOND));
        assert_eq!((config.body_bytes_max, config.portion_bytes_max, config.bytes_max), (1 << 20, 1 << 20, 1 << 30));
        assert_eq!(
            (config.rest, config.at_once, config.per_caller, config.cancel_unwatched),
            (false, None, None, None)
        );
        assert_eq!(config.keep, 86_400 * SECOND);
    }

    #[test]
    fn a_command_is_a_whole_configuration() {
        let config = read("command = ['make', 'all']\nenvironment = { TOKEN = 'hunter2' }\ngrace = '0s'").unwrap();
        assert_eq!(config.kind(), "command");
        assert!(!format!("{config:?}").contains("hunter2"), "no log shows the environment");
        let Target::Command(program) = config.target else { panic!("a command is a program") };
        assert_eq!(program.command, ["make", "all"]);
        assert_eq!(program.content_type, "text/plain; charset=utf-8");
        assert_eq!((program.portions, program.grace), (Portions::Lines, Duration::ZERO));
    }

    #[test]
    fn every_key_of_an_upstream_is_read() {
        let config = read(
            "url = 'https://models.example/v1'\nmethod = 'GET'\npass-headers = ['Authorization']\nkeep-headers = ['X-Cost']\n\
             headers = { X-Key = 'hunter2' }\nrest = true\nconnect-timeout = '1s'\nhead-timeout = '2s'\nidle-timeout = '3s'\n\
             total-timeout = '4m'\nbody-bytes-max = '2MiB'\nportion-bytes-max = 4096\nbytes-max = '1TiB'\nat-once = 3\n\
             per-caller = 2\nkeep = '7d'\ncancel-unwatched = '30s'",
        )
        .unwrap();
        assert!(!format!("{config:?}").contains("hunter2"), "no log shows a header");
        assert_eq!((config.portion_bytes_max, config.bytes_max), (4096, 1 << 40));
        assert_eq!((config.at_once, config.per_caller), (Some(3), Some(2)));
        assert_eq!(config.cancel_unwatched, Some(30 * SECOND));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_key() {
        for (text, why) in [
            ("", "give url"),
            ("url = 'http://a/'\ncommand = ['a']", "exclude each other"),
            ("url = 'http://a/'\nfollow = true", "unknown field `follow`"),
            ("url = 'http://a/'\ngrace = '1s'", "grace belongs to a command"),
            ("command = ['a']\nmethod = 'GET'", "method belongs to a url"),
            ("url = 'ftp://a/'", "url: it begins with"),
            ("url = 'file:///etc/passwd'", "url: it begins with"),
            ("url = '/a'", "url: '/a' is none"),
            ("url = 'http://u:p@a/'", "url: it has credentials"),
            ("url = 'http://a/#b'", "url: it has a fragment"),
            ("url = 'http://a:0/'", "url: it needs a host"),
            ("url = 'http://a/'\nmethod = 'TRACE'", "method: 'TRACE'"),
            ("url = 'http://a/'\npass-headers = ['Host']", "'host' is the server's own"),
            ("url = 'http://a/'\npass-headers = ['a b']", "pass-headers: 'a b'"),
            ("url = 'http://a/'\nheaders = { Connection = 'close' }", "'connection' is the server's own"),
            ("url = 'http://a/'\nheaders = { A = \"b\\r\\nc: d\" }", "headers: the value of 'A'"),
            ("url = 'http://a/'\nidle-timeout = '0s'", "idle-timeout: 0ns is too short"),
            ("url = 'http://a/'\nidle-timeout = 5", "expected a string"),
            ("url = 'http://a/'\ntotal-timeout = '31d'", "total-timeout:"),
            ("url = 'http://a/'\nbody-bytes-max = '1GiB'", "body-bytes-max:"),
            ("url = 'http://a/'\nat-once = 0", "at-once: 0"),
            ("command = []", "command: give"),
            ("command = ['']", "command: give"),
            ("command = ['a', \"b\\u0000\"]", "NUL"),
            ("command = ['a']\nenvironment = { 'A=B' = 'c' }", "environment: 'A=B'"),
            ("command = ['a']\nenvironment = { FOURFOLD_CALL_ID = 'c' }", "set by the server"),
            ("command = ['a']\ncontent-type = 'text'", "content-type: 'text'"),
            ("command = ['a']\nportions = 'words'", "unknown variant `words`"),
        ] {
            let found = read(text).expect_err(text);
            assert!(found.contains(why), "{text}: {found}");
        }
    }

    #[test]
    fn names_and_counts_are_checked_together() {
        let call = read("url = 'http://a/'").unwrap();
        let with = |name: &str| Options {
            calls: [(name.to_owned(), call.clone())].into_iter().collect(),
            ..Options::default()
        };
        for good in ["report", "a.b_c-9", "...a", &"a".repeat(64)] {
            assert_eq!(with(good).check(), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ü", "a%2f", &"a".repeat(65)] {
            assert!(with(bad).check().is_err(), "{bad}");
        }
        assert!(Options { calls_max: 0, ..Options::default() }.check().is_err());
    }
}
