//! Every setting of the server, each defined once: the flag `--key`, the variable `FOURFOLD_KEY`, the key of the TOML
//! file and the help all come from here.
//!
//! To add one: a constant, a line in [`ALL`], and what it means in `config.rs`.

use std::collections::BTreeMap;

use clap::{Arg, ArgMatches, Command};

use super::{access, calls};

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The TOML key, and the flag behind `--`.
    pub(crate) key: &'static str,
    /// What kind of value it takes, as the help shows it.
    value: &'static str,
    /// As if it had been typed; `None` where [`without`](Self::without) says what holds then.
    pub(crate) default: Option<&'static str>,
    /// What holds if it is not given and there is no default.
    pub(crate) without: &'static str,
    help: &'static str,
}

pub(crate) const LISTEN: Setting = Setting {
    key: "listen",
    value: "ADDRESS",
    default: Some("127.0.0.1:4437"),
    without: "",
    help: "Where to listen; port 0 takes a free one",
};
pub(crate) const TLS_CERT: Setting = Setting {
    key: "tls-cert",
    value: "FILE",
    default: None,
    without: "no TLS",
    help: "Speak TLS, and only TLS, with the certificate in this PEM file, its chain behind it; HTTP/2 comes with it",
};
pub(crate) const TLS_KEY: Setting = Setting {
    key: "tls-key",
    value: "FILE",
    default: None,
    without: "no TLS",
    help: "The private key of tls-cert, in a PEM file without a passphrase",
};
pub(crate) const ADMIN_LISTEN: Setting = Setting {
    key: "admin-listen",
    value: "ADDRESS|off",
    default: None,
    without: "on loopback, the port of 'listen' plus 1000",
    help: "Where the operator finds /metrics, /health/live and /health/ready; whoever reaches it may read them",
};
pub(crate) const DATA_DIR: Setting = Setting {
    key: "data-dir",
    value: "DIRECTORY",
    default: Some("./fourfold-data"),
    without: "",
    help: "Where the embedded engine keeps its streams; one process at a time",
};
pub(crate) const ENGINE: Setting = Setting {
    key: "engine",
    value: "embedded|memory",
    default: Some("embedded"),
    without: "",
    help: "What keeps the streams: 'embedded' on disk, 'memory' until the process ends",
};
pub(crate) const DURABILITY: Setting = Setting {
    key: "durability",
    value: "synced|interval|os",
    default: Some("synced"),
    without: "",
    help: "When an append is acknowledged. 'synced': once it is on the disk, survives a power loss. 'interval': once it is \
           written, and the disk is synced every sync-interval; survives a crash of the process, a power loss takes back at \
           most the last interval. 'os': once it is written, the operating system decides when it reaches the disk; survives \
           a crash of the process, not one of the machine",
};
pub(crate) const SYNC_INTERVAL: Setting = Setting {
    key: "sync-interval",
    value: "DURATION",
    default: Some("100ms"),
    without: "",
    help: "With durability 'interval': how much time a power loss may take back",
};
pub(crate) const LONG_POLL_TIMEOUT: Setting = Setting {
    key: "long-poll-timeout",
    value: "DURATION",
    default: Some("20s"),
    without: "",
    help: "How long a long poll waits when the request does not say; at most 60s",
};
pub(crate) const THREADS: Setting = Setting {
    key: "threads",
    value: "COUNT",
    default: None,
    without: "one a core, but for one core",
    help: "How many threads serve connections",
};
pub(crate) const BODY_MAX: Setting = Setting {
    key: "body-max",
    value: "SIZE",
    default: Some("16MiB"),
    without: "",
    help: "The largest body of one append; each connection that appends may hold so much memory",
};
pub(crate) const RETENTION_AGE: Setting = Setting {
    key: "retention-age",
    value: "DURATION",
    default: None,
    without: "kept for ever",
    help: "How long a stream that does not say keeps its records",
};
pub(crate) const RETENTION_BYTES: Setting = Setting {
    key: "retention-bytes",
    value: "SIZE",
    default: None,
    without: "all are kept",
    help: "How many bytes of records a stream that does not say keeps",
};
pub(crate) const RETENTION_RECORDS: Setting = Setting {
    key: "retention-records",
    value: "COUNT",
    default: None,
    without: "all are kept",
    help: "How many records a stream that does not say keeps",
};
pub(crate) const DRAIN_DEADLINE: Setting = Setting {
    key: "drain-deadline",
    value: "DURATION",
    default: Some("10s"),
    without: "",
    help: "How long connections may take to end after SIGTERM",
};
pub(crate) const DRAIN_SPREAD: Setting = Setting {
    key: "drain-spread",
    value: "DURATION",
    default: Some("5s"),
    without: "",
    help: "Readers are told to come back at a moment spread over so long, so that they do not come all at once",
};
pub(crate) const CONNECTIONS_MAX: Setting = Setting {
    key: "connections-max",
    value: "COUNT",
    default: None,
    without: "what the limit of open files leaves",
    help: "How many connections may be open at once",
};
pub(crate) const CONNECTIONS_PER_ADDRESS: Setting = Setting {
    key: "connections-per-address",
    value: "COUNT|none",
    default: None,
    without: "1000, but any number from this machine",
    help: "How many connections one address may have open at once; an IPv6 /64 is one address",
};
pub(crate) const CONNECTIONS_PER_TOKEN: Setting = Setting {
    key: "connections-per-token",
    value: "COUNT|none",
    default: Some("none"),
    without: "",
    help: "How many reads that stay open (WebSocket, events, long polls) one token's subject may have at once",
};
pub(crate) const REQUESTS_PER_ADDRESS: Setting = Setting {
    key: "requests-per-address",
    value: "RATE|none",
    default: None,
    without: "'1000/s burst 5000', but any number from this machine",
    help: "How many requests one address may send, such as '100/s', '600/m' or '100/s burst 500'",
};
pub(crate) const REQUESTS_PER_TOKEN: Setting = Setting {
    key: "requests-per-token",
    value: "RATE|none",
    default: Some("none"),
    without: "",
    help: "How many requests one token's subject may send",
};
pub(crate) const APPENDS_PER_ADDRESS: Setting = Setting {
    key: "appends-per-address",
    value: "RATE|none",
    default: None,
    without: "'500/s burst 2000', but any number from this machine",
    help: "How many appends one address may send, over HTTP and WebSocket together",
};
pub(crate) const APPENDS_PER_TOKEN: Setting = Setting {
    key: "appends-per-token",
    value: "RATE|none",
    default: Some("none"),
    without: "",
    help: "How many appends one token's subject may send",
};
pub(crate) const APPENDS_PER_STREAM: Setting = Setting {
    key: "appends-per-stream",
    value: "RATE|none",
    default: Some("none"),
    without: "",
    help: "How many appends one stream takes, whoever sends them",
};
pub(crate) const STREAMS_MAX: Setting = Setting {
    key: "streams-max",
    value: "COUNT|none",
    default: Some("none"),
    without: "",
    help: "How many streams there may be",
};
pub(crate) const STREAMS_PER_TOKEN: Setting = Setting {
    key: "streams-per-token",
    value: "COUNT|none",
    default: Some("none"),
    without: "",
    help: "How many streams one token's subject may have created that are still there; a token's own streams-max outranks it",
};
pub(crate) const BYTES_PER_TOKEN: Setting = Setting {
    key: "bytes-per-token",
    value: "SIZE|none",
    default: Some("none"),
    without: "",
    help: "How much may be in the streams that one token's subject has created; a token's own bytes-max outranks it",
};
pub(crate) const STORAGE_MAX: Setting = Setting {
    key: "storage-max",
    value: "SIZE|none",
    default: Some("none"),
    without: "",
    help: "How much of the disk all streams may take; beyond it nothing is appended",
};
pub(crate) const RECORD_MAX: Setting = Setting {
    key: "record-max",
    value: "SIZE|none",
    default: Some("none"),
    without: "",
    help: "The largest record; without it what body-max allows",
};
pub(crate) const BATCH_MAX: Setting = Setting {
    key: "batch-max",
    value: "COUNT|none",
    default: Some("none"),
    without: "",
    help: "How many records one append may have; never more than 100000",
};
pub(crate) const BODIES_MAX: Setting = Setting {
    key: "bodies-max",
    value: "SIZE",
    default: Some("256MiB"),
    without: "",
    help: "How much may be held of bodies and WebSocket messages that have come in part, all connections together",
};
pub(crate) const UNSENT_MAX: Setting = Setting {
    key: "unsent-max",
    value: "SIZE",
    default: Some("256MiB"),
    without: "",
    help: "How much may be held for readers that take no more, all together; one that stalls beyond it is let go, and can come back with its offset",
};
pub(crate) const STALL_TIMEOUT: Setting = Setting {
    key: "stall-timeout",
    value: "DURATION",
    default: Some("2m"),
    without: "",
    help: "How long a reader may take no byte; then it is told goodbye with its offset, and can come back",
};
pub(crate) const TRUSTED_PROXIES: Setting = Setting {
    key: "trusted-proxies",
    value: "NETWORKS",
    default: Some(""),
    without: "",
    help: "Proxies that may say for whom they ask, with commas between them, such as '127.0.0.1, 10.0.0.0/8'",
};
pub(crate) const FORWARDED_HEADER: Setting = Setting {
    key: "forwarded-header",
    value: "x-forwarded-for|forwarded",
    default: Some("x-forwarded-for"),
    without: "",
    help: "The header in which trusted proxies say for whom they ask: only the one that they write, since the other one is the client's own",
};
pub(crate) const PROXY_PROTOCOL: Setting = Setting {
    key: "proxy-protocol",
    value: "on|off",
    default: Some("off"),
    without: "",
    help: "Whether trusted proxies begin each connection with a PROXY header, version 1 or 2",
};
pub(crate) const CALLS_MAX: Setting = Setting {
    key: "calls-max",
    value: "COUNT",
    default: Some("1000"),
    without: "",
    help: "How many calls may run at once",
};
pub(crate) const CALLS_PER_CALLER: Setting = Setting {
    key: "calls-per-caller",
    value: "COUNT",
    default: Some("1000"),
    without: "",
    help: "How many calls that were begun from one address may run at once; behind a proxy that is not among trusted-proxies all come from one",
};
pub(crate) const CONTROL_SOCKET: Setting = Setting {
    key: "control-socket",
    value: "PATH|off",
    default: None,
    without: "control.sock in the data directory, none with engine 'memory'",
    help: "A Unix socket for commands on this machine, such as 'fourfold backup'; only its owner can open it",
};
pub(crate) const ORIGINS: Setting = Setting {
    key: "origins",
    value: "ORIGIN,…",
    default: None,
    without: "without rules pages of the same host, with rules any page",
    help: "Which pages on other hosts may use the server, such as https://app.example,https://b.example, or * for every page. A token in \
           a cookie counts only from the same origin and from those named by themselves",
};
pub(crate) const INSECURE_OPEN: Setting = Setting {
    key: "insecure-open",
    value: SWITCH,
    default: Some("false"),
    without: "",
    help: "Everybody who reaches the server may do everything; needed to listen beyond loopback without [access] rules",
};
pub(crate) const LOG: Setting = Setting {
    key: "log",
    value: "FILTER",
    default: Some("info"),
    without: "",
    help: "What is logged to standard error, as a tracing filter: 'warn', or 'info,fourfold_server=debug'",
};
pub(crate) const LOG_FORMAT: Setting = Setting {
    key: "log-format",
    value: "text|json",
    default: Some("text"),
    without: "",
    help: "How a line of the log is written: 'text' for people, 'json' for collectors",
};

/// What a switch takes: as a flag it may stand alone.
const SWITCH: &str = "true|false";

/// All of them, in the order of the help.
pub(crate) const ALL: &[&Setting] = &[
    &LISTEN,
    &TLS_CERT,
    &TLS_KEY,
    &ADMIN_LISTEN,
    &DATA_DIR,
    &ENGINE,
    &DURABILITY,
    &SYNC_INTERVAL,
    &LONG_POLL_TIMEOUT,
    &THREADS,
    &BODY_MAX,
    &RETENTION_AGE,
    &RETENTION_BYTES,
    &RETENTION_RECORDS,
    &DRAIN_DEADLINE,
    &DRAIN_SPREAD,
    &CONNECTIONS_MAX,
    &CONNECTIONS_PER_ADDRESS,
    &CONNECTIONS_PER_TOKEN,
    &REQUESTS_PER_ADDRESS,
    &REQUESTS_PER_TOKEN,
    &APPENDS_PER_ADDRESS,
    &APPENDS_PER_TOKEN,
    &APPENDS_PER_STREAM,
    &STREAMS_MAX,
    &STREAMS_PER_TOKEN,
    &BYTES_PER_TOKEN,
    &STORAGE_MAX,
    &RECORD_MAX,
    &BATCH_MAX,
    &BODIES_MAX,
    &UNSENT_MAX,
    &STALL_TIMEOUT,
    &TRUSTED_PROXIES,
    &FORWARDED_HEADER,
    &PROXY_PROTOCOL,
    &CALLS_MAX,
    &CALLS_PER_CALLER,
    &CONTROL_SOCKET,
    &ORIGINS,
    &INSECURE_OPEN,
    &LOG,
    &LOG_FORMAT,
];

/// The flag that names the file; not a setting itself, since a file cannot name another.
const CONFIG: &str = "config";

impl Setting {
    /// `FOURFOLD_DATA_DIR` for `data-dir`.
    pub(crate) fn variable(&self) -> String {
        format!("FOURFOLD_{}", self.key.to_uppercase().replace('-', "_"))
    }

    fn arg(&self) -> Arg {
        let default = match self.default {
            Some(value) => format!("default: {value}"),
            None => format!("not given: {}", self.without),
        };
        let help = format!("{} [{default}] [env: {}]", self.help, self.variable());
        let arg = Arg::new(self.key).long(self.key).value_name(self.value).help(help);
        match self.value {
            SWITCH => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
            _ => arg.allow_hyphen_values(true),
        }
    }
}

/// What was given as flags, not yet understood.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// By [`Setting::key`].
    pub(crate) values: BTreeMap<&'static str, String>,
    /// `--config`.
    pub(crate) file: Option<String>,
}

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .help("A TOML file with any of these settings as keys, and [access] and [calls.NAME] tables (see --help); variables outrank it, flags outrank both [env: FOURFOLD_CONFIG]");
        command.args(ALL.iter().map(|setting| setting.arg())).arg(file).after_long_help(format!(
            "{}\n\n{}",
            access::HELP,
            calls::HELP
        ))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |key: &str| matches.get_one::<String>(key).cloned();
        let values = ALL.iter().filter_map(|setting| Some((setting.key, given(setting.key)?))).collect();
        Ok(Self { values, file: given(CONFIG) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = <Self as clap::FromArgMatches>::from_arg_matches(matches)?;
        Ok(())
    }
}
