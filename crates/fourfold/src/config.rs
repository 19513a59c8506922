//! The server's configuration in two steps: what was typed ([`Typed`]: file, environment, flags) and what it means
//! ([`ServeConfig`]: checked, defaults filled in, nothing left to parse).

mod access;
mod calls;
mod limits;
mod settings;
mod tls;
mod typed;
mod units;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    thread,
    time::Duration,
};

use fourfold_calls::{CallConfig, limits::CALLS_LIMIT};
use fourfold_server::{LimitOptions, Origins};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::log::Format;
pub(crate) use limits::KEYS as LIMIT_KEYS;
pub(crate) use settings::Flags;
use settings::Setting;
pub(crate) use tls::TlsFiles;
use typed::{Origin, Typed};
pub(crate) use units::duration;

/// Everything the server needs to know, checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServeConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The certificate to speak TLS with.
    pub tls: Option<TlsFiles>,
    /// Where metrics and health are told.
    pub admin_listen: AdminListen,
    /// What keeps the streams.
    pub engine: Engine,
    /// How long a long poll waits when the request does not say.
    pub long_poll_timeout: Duration,
    /// How many threads serve connections.
    pub threads: NonZeroUsize,
    /// The largest body of one append.
    pub body_bytes_max: usize,
    /// For streams that do not say what they keep.
    pub retention: Retention,
    /// How long connections may take to end after SIGTERM.
    pub drain_deadline: Duration,
    /// Over how long the readers' return is spread.
    pub drain_spread: Duration,
    /// How much anybody may have, and do.
    pub limits: LimitOptions,
    /// What can be called, by name.
    pub calls: BTreeMap<String, CallConfig>,
    /// How many calls may run at once.
    pub calls_max: usize,
    /// How many of one caller.
    pub calls_per_caller: usize,
    /// Where commands on this machine ask, if anywhere.
    pub control_socket: Option<PathBuf>,
    /// From which pages of other hosts requests may come.
    pub origins: Vec<String>,
    /// Who may do what; `None`: everybody everything.
    pub access: Option<fourfold_access::Options>,
    /// Files that nobody but the server should be able to read.
    pub secret_files: Vec<PathBuf>,
    /// Whether everybody may do everything although others than this machine reach it.
    pub insecure_open: bool,
    /// A tracing filter, known to be one.
    pub log: String,
    /// In which form lines are written.
    pub log_format: Format,
}

/// Where metrics and health are told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum AdminListen {
    /// Nowhere.
    Off,
    /// There, and nowhere else.
    At(SocketAddr),
    /// Nobody has said: there, or at a free port if somebody else is there.
    Preferably(SocketAddr),
}

impl AdminListen {
    /// If nobody has said: on loopback, so that nobody is told by accident, and found from the server's own port.
    fn beside(listen: SocketAddr) -> Self {
        let port = match listen.port() {
            0 => 0,
            port => port.checked_add(ADMIN_PORT_OFFSET).unwrap_or(0),
        };
        Self::Preferably((Ipv4Addr::LOCALHOST, port).into())
    }
}

const ADMIN_PORT_OFFSET: u16 = 1000;

/// Which engine, and what it needs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Engine {
    /// On disk.
    Embedded {
        /// Where; created if it is not there.
        data_dir: PathBuf,
        /// When an append is acknowledged.
        durability: Durability,
    },
    /// Until the process ends.
    Memory,
}

/// When an append is acknowledged, and so which crash it survives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Durability {
    /// Once it is on the disk: survives a power loss.
    Synced,
    /// Once it is written; the disk is synced this often: survives a crash of the process, and a power loss takes back
    /// at most the last interval.
    Interval(Duration),
    /// Once it is written: survives a crash of the process, not one of the machine.
    Os,
}

/// What a stream keeps; `None` keeps everything.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Retention {
    /// Records younger than this.
    pub age: Option<Duration>,
    /// So many bytes of records.
    pub bytes: Option<u64>,
    /// So many records.
    pub records: Option<u64>,
}

/// What was given for a setting, as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Given {
    /// The setting.
    pub key: &'static str,
    /// The value, or what holds without one.
    pub text: String,
    /// Where it was typed.
    pub origin: String,
}

impl Given {
    fn of(setting: &Setting, typed: &Typed) -> Self {
        let (text, origin) = match typed.get(setting) {
            Some(value) => (
                value.text.clone(),
                match &value.origin {
                    Origin::Default(_) => "default".to_owned(),
                    // The key stands in front already.
                    Origin::File { path, line, .. } => format!("{path} line {line}"),
                    origin => origin.to_string(),
                },
            ),
            None => (format!("({})", setting.without), "not given".to_owned()),
        };
        Self { key: setting.key, text, origin }
    }
}

/// Why the configuration cannot be used; each says where the wrong value was typed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {path} cannot be read: {why}")]
    File {
        /// As it was given.
        path: String,
        /// What the system said.
        why: String,
    },
    /// The file is not TOML.
    #[error("{path} line {line}: not TOML: {why}")]
    Syntax {
        /// As it was given.
        path: String,
        /// From 1.
        line: usize,
        /// What the parser said.
        why: String,
    },
    /// The file has a key that is no setting.
    #[error("{path} line {line}: unknown key '{key}'; the keys are {}", known_keys())]
    UnknownKey {
        /// As it was given.
        path: String,
        /// From 1.
        line: usize,
        /// The key.
        key: String,
    },
    /// A value means nothing.
    #[error("{origin}: {why}")]
    Value {
        /// Where it was typed.
        origin: Origin,
        /// What is wrong with it and how to write it.
        why: String,
    },
}

const LONG_POLL_TIMEOUT_MAX: Duration = Duration::from_secs(60); // The wire promises it; most proxies cut soon after.
const SYNC_INTERVAL_MAX: Duration = Duration::from_secs(60); // Longer is durability 'os' by another name.
const DRAIN_MAX: Duration = Duration::from_secs(60 * 60); // No supervisor waits longer before it kills.
const BODY_BYTES_MIN: u64 = 1 << 10; // Below it even a small JSON record is refused.
const BODY_BYTES_MAX: u64 = 1 << 30; // A body is held in memory whole.
const THREADS_MAX: u64 = 1024; // More threads than any machine here has cores is a typing error.
const FILES_RESERVED: u64 = 512; // For the engine's own files, the listener, and the standard streams.

impl ServeConfig {
    /// Understands flags, the process's environment and the configuration file; with what was given for each setting. Raises the limit of open
    /// files to what the system allows, since the number of connections follows from it.
    ///
    /// Errors: the first value that means nothing, with the place where it was typed.
    pub(crate) fn explained(flags: &Flags) -> Result<(Self, Vec<Given>), ConfigError> {
        let typed = Typed::gather(flags, |name| std::env::var(name).ok())?;
        let given = settings::ALL.iter().map(|setting| Given::of(setting, &typed)).collect();
        Ok((Self::understand(&typed, files_max())?, given))
    }

    fn understand(typed: &Typed, files_max: u64) -> Result<Self, ConfigError> {
        use settings::*;
        let engine = match required(typed, &ENGINE, |text| one_of(text, &["embedded", "memory"]))? {
            "memory" => Engine::Memory,
            _ => Engine::Embedded {
                data_dir: required(typed, &DATA_DIR, |text| match text {
                    "" => Err("give a directory".into()),
                    path => Ok(PathBuf::from(path)),
                })?,
                durability: match required(typed, &DURABILITY, |text| one_of(text, &["synced", "interval", "os"]))? {
                    "interval" => Durability::Interval(required(typed, &SYNC_INTERVAL, |text| {
                        within(units::duration(text)?, Duration::from_millis(1), SYNC_INTERVAL_MAX)
                    })?),
                    "os" => Durability::Os,
                    _ => Durability::Synced,
                },
            },
        };
        // One core is left to the committer and to the kernel's own work for the sockets: on two cores, two shards spend a third more on each
        // delivery than one.
        let cores = || {
            let all = thread::available_parallelism().map_or(1, NonZeroUsize::get);
            NonZeroUsize::new(all - 1).unwrap_or(NonZeroUsize::MIN)
        };
        let files_left = files_max.saturating_sub(FILES_RESERVED).clamp(16, limits::CONNECTIONS_LIMIT);
        let drain = |text: &str| within(units::duration(text)?, Duration::ZERO, DRAIN_MAX);
        let in_data_dir = match &engine {
            Engine::Embedded { data_dir, .. } => Some(data_dir.join(crate::control_socket::NAME)),
            Engine::Memory => None,
        };
        let calls_count = |text: &str| count(text, CALLS_LIMIT as u64).map(to_usize);
        let address = |text: &str| {
            text.parse::<SocketAddr>()
                .map_err(|_| format!("'{text}' is not an address; write an IP and a port, such as 127.0.0.1:4437"))
        };
        let listen = required(typed, &LISTEN, address)?;
        let tls = tls::understand(typed)?;
        let secret_files = tls.iter().map(|files| &files.key).chain(&typed.secret_files).cloned().collect();
        Ok(Self {
            listen,
            secret_files,
            admin_listen: optional(typed, &ADMIN_LISTEN, |text| match text {
                "off" => Ok(AdminListen::Off),
                text => address(text).map(AdminListen::At),
            })?
            .unwrap_or_else(|| AdminListen::beside(listen)),
            tls,
            engine,
            long_poll_timeout: required(typed, &LONG_POLL_TIMEOUT, |text| {
                within(units::duration(text)?, Duration::from_millis(1), LONG_POLL_TIMEOUT_MAX)
            })?,
            threads: optional(typed, &THREADS, |text| count(text, THREADS_MAX))?.map_or_else(cores, to_nonzero),
            body_bytes_max: required(typed, &BODY_MAX, |text| match units::size(text)? {
                size @ BODY_BYTES_MIN..=BODY_BYTES_MAX => Ok(to_usize(size)),
                _ => Err(format!("'{text}' is out of bounds; give 1KiB to 1GiB")),
            })?,
            retention: Retention {
                age: optional(typed, &RETENTION_AGE, |text| {
                    within(units::duration(text)?, Duration::from_secs(1), Duration::MAX)
                })?,
                bytes: optional(typed, &RETENTION_BYTES, units::size)?,
                records: optional(typed, &RETENTION_RECORDS, |text| count(text, u64::MAX))?,
            },
            drain_deadline: required(typed, &DRAIN_DEADLINE, drain)?,
            drain_spread: required(typed, &DRAIN_SPREAD, drain)?,
            access: typed.access.clone(),
            insecure_open: insecure_open(typed)?,
            limits: limits::understand(typed, files_left)?,
            calls: typed.calls.clone(),
            calls_max: required(typed, &CALLS_MAX, calls_count)?,
            calls_per_caller: required(typed, &CALLS_PER_CALLER, calls_count)?,
            control_socket: optional(typed, &CONTROL_SOCKET, |text| match text {
                "" => Err("give a path, or 'off'".into()),
                "off" => Ok(None),
                path => Ok(Some(PathBuf::from(path))),
            })?
            .unwrap_or(in_data_dir),
            origins: optional(typed, &ORIGINS, |text| {
                let origins: Vec<String> = text.split(',').map(|origin| origin.trim().to_owned()).collect();
                Origins::named(origins.clone()).map(|_| origins)
            })?
            .unwrap_or_default(),
            log_format: match required(typed, &LOG_FORMAT, |text| one_of(text, &["text", "json"]))? {
                "json" => Format::Json,
                _ => Format::Text,
            },
            log: required(typed, &LOG, |text| match tracing_subscriber::EnvFilter::try_new(text) {
                Ok(_) => Ok(text.to_owned()),
                Err(error) => {
                    Err(format!("'{text}' is not a filter ({error}); write for example 'info' or 'fourfold=debug'"))
                }
            })?,
        })
    }
}

/// The `[access]` section of a configuration file, for commands that need nothing else of it; `None` if there is no file, or no section.
///
/// Errors: as those of the server's configuration.
pub(crate) fn access(file: Option<&str>) -> Result<Option<fourfold_access::Options>, ConfigError> {
    let flags = Flags { file: file.map(str::to_owned), ..Flags::default() };
    Ok(Typed::gather(&flags, |_| None)?.access)
}

/// Whether everybody may do everything, wherever the server listens.
///
/// Errors: others than this machine could do everything and nobody said so, or it was said beside rules.
fn insecure_open(typed: &Typed) -> Result<bool, ConfigError> {
    use settings::{INSECURE_OPEN, LISTEN};
    let refused = |setting, why: String| {
        let origin = typed.get(setting).expect("a setting that is required has a default").origin.clone();
        Err(ConfigError::Value { origin, why })
    };
    let open = required(typed, &INSECURE_OPEN, |text| one_of(text, &["true", "false"]))? == "true";
    if open && typed.access.is_some() {
        return refused(
            &INSECURE_OPEN,
            "there are [access] rules, which this would switch off; drop one of the two".into(),
        );
    }
    let listen: SocketAddr = required(typed, &LISTEN, |text| text.parse().map_err(|_| text.to_owned()))?;
    if !listen.ip().is_loopback() && !open && typed.access.is_none() {
        return refused(
            &LISTEN,
            format!(
                "others than this machine reach {listen}, and without rules they could read, append and delete everything.\n\
                 Write who may do what into the configuration file, for example that everybody may read:\n\n    \
                 [access.anonymous]\n    read = [\"**\"]\n\n\
                 (fourfold serve --help tells the rest), or say that everybody may do everything: --insecure-open"
            ),
        );
    }
    Ok(open)
}

fn optional<'a, T>(
    typed: &'a Typed,
    setting: &Setting,
    parse: impl FnOnce(&'a str) -> Result<T, String>,
) -> Result<Option<T>, ConfigError> {
    let Some(value) = typed.get(setting) else { return Ok(None) };
    parse(&value.text).map(Some).map_err(|why| ConfigError::Value { origin: value.origin.clone(), why })
}

fn required<'a, T>(
    typed: &'a Typed,
    setting: &Setting,
    parse: impl FnOnce(&'a str) -> Result<T, String>,
) -> Result<T, ConfigError> {
    Ok(optional(typed, setting, parse)?.expect("a setting that is required has a default"))
}

fn one_of<'a>(text: &'a str, choices: &[&str]) -> Result<&'a str, String> {
    if choices.contains(&text) { Ok(text) } else { Err(format!("'{text}' is not one of {}", choices.join(", "))) }
}

fn within(duration: Duration, min: Duration, max: Duration) -> Result<Duration, String> {
    match duration {
        short if short < min => Err(format!("{duration:?} is too short; at least {min:?}")),
        long if long > max => Err(format!("{duration:?} is too long; at most {max:?}")),
        fits => Ok(fits),
    }
}

fn count(text: &str, max: u64) -> Result<u64, String> {
    units::number(text)
        .filter(|count| (1..=max).contains(count))
        .ok_or_else(|| format!("'{text}' is not a whole number from 1 to {max}"))
}

fn to_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn to_nonzero(count: u64) -> NonZeroUsize {
    NonZeroUsize::new(to_usize(count)).unwrap_or(NonZeroUsize::MIN)
}

fn known_keys() -> String {
    let mut keys: Vec<&str> = settings::ALL.iter().map(|setting| setting.key).collect();
    keys.extend([access::KEY, calls::KEY]);
    keys.join(", ")
}

/// Raises the soft limit of open files to the hard one and returns it.
pub(crate) fn files_max() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let in_force = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    in_force.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
