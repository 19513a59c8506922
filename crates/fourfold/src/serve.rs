//! `fourfold serve`: the seam between the command and the server. The only place that knows both.

use std::{
    error::Error,
    fmt,
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    os::unix::net::UnixStream,
    panic,
    path::PathBuf,
    process,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use fourfold_access::{Access, AccessError};
use fourfold_engines::{
    MemoryEngine,
    embedded::{Durability, EmbeddedEngine, EmbeddedOptions, OpenFailure, backup::Backups},
};
use fourfold_server::{
    CallOptions, Extra, Limits, Operator, Origins, Server, Settings, SubscriptionOptions, Tls, TlsError,
};
use fourfold_stream::{Engine, Relay, Retention};
use rustix::process::setpriority_process;
use tokio::{
    runtime::Handle,
    signal::unix::{SignalKind, signal},
};

use crate::{
    config::{self, AdminListen, ConfigError, Given, ServeConfig},
    control_socket::{ControlSocket, Controlled},
    log::{self, Log},
    reload::{Part, Reloads},
    retry, supervisor,
    traces::Exporting,
};

/// Why the server does not run, or stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}; stop what listens there, or choose another with --listen")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The rules cannot be taken.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The operator's address cannot be had.
    #[error(
        "cannot tell metrics and health on {address}: {source}; choose another address with --admin-listen, or 'off'"
    )]
    Operator {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The streams cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenFailure),
    /// Commands could not speak to it.
    #[error("the control socket {} cannot be opened: {source}; choose another with --control-socket, or 'off'", path.display())]
    Control {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The certificate cannot be used.
    #[error("tls-cert, tls-key: {}", said(.0))]
    Tls(#[from] TlsError),
    /// The demo and rules.
    #[error(
        "the demo is open to everybody: neither its page nor what feeds it shows a token, so [access] would refuse them; leave that section out, or run 'fourfold serve'"
    )]
    DemoAccess,
    /// Appends cannot be traced as asked for.
    #[error("{0}")]
    Traces(String),
    /// The machine denies what a server needs.
    #[error("the server cannot run: {0}")]
    Run(io::Error),
}

/// Where a server can be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address {
    pub(crate) scheme: &'static str,
    pub(crate) socket: SocketAddr,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.socket)
    }
}

/// Runs the server until it has drained after SIGTERM or SIGINT. `ready` is called once, when connections are accepted,
/// with the addresses in force, the server's own and the operator's; `extra` answers beside the streams.
pub(crate) fn serve(
    source: Source,
    extra: Option<Arc<dyn Extra>>,
    ready: impl FnOnce(Address, Option<SocketAddr>),
) -> Result<(), ServeError> {
    let Source { config, given, read, log } = source;
    // Only accepts and waits for signals; connections live on threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Run)?;
    runtime.block_on(async {
        let tls = config.tls.as_ref().map(|files| Tls::load(&files.cert, &files.key)).transpose()?;
        let access = Access::start(config.access.clone()).await?;
        let origins = named(&config);
        let exporting = Exporting::begin(durability(&config.engine)).map_err(ServeError::Traces)?;
        let settings = Settings {
            long_poll_timeout: config.long_poll_timeout,
            body_bytes_max: config.body_bytes_max,
            limits: config.limits.clone(),
            drain_deadline: config.drain_deadline,
            drain_spread: config.drain_spread,
            // Whoever reaches a server that listens to the world should not reach its machine through it.
            subscriptions: SubscriptionOptions {
                local_webhooks: config.listen.ip().is_loopback(),
                ..SubscriptionOptions::default()
            },
            calls: CallOptions {
                calls: config.calls.clone(),
                calls_max: config.calls_max,
                calls_per_caller: config.calls_per_caller,
            },
            access: access.clone(),
            origins: origins.clone(),
            tls: tls.clone(),
            traces: exporting.traces(),
            extra,
            ..Settings::default()
        };
        if let Some(tls) = &tls {
            tell_trouble(tls);
        }
        if config.insecure_open {
            tracing::warn!(address = %config.listen, "insecure-open: whoever reaches the server may read, append and delete everything");
        }
        let failed = |source| ServeError::Listen { address: config.listen, source };
        // Before the engine is opened: a taken port should not cost a recovery.
        let mut server = Server::bind(config.listen, settings).await.map_err(failed)?;
        let operator = operator(config.admin_listen)?;
        let operator_address = operator.as_ref().map(Operator::address);
        if let Some(operator) = operator {
            server.tell(operator).map_err(ServeError::Run)?;
        }
        let threads = u16::try_from(config.threads.get()).unwrap_or(u16::MAX);
        let (relay, shards) = Relay::new(threads);
        let (engine, backups) = {
            let _opening = Opening::begin(&config);
            open(&config, relay)?
        };
        // To add a part that can change while the server runs: its keys, and how its new piece is made and put into force.
        let parts = vec![
            log_part(log.clone()),
            origins_part(origins),
            limits_part(server.limits()),
            tls_part(tls.clone()),
            access_part(access),
        ];
        let reloads = Arc::new(Reloads::new(&config, given, read, parts));
        let _control = match &config.control_socket {
            Some(path) => {
                let opened = ControlSocket::open(path, Arc::new(Running { backups, reloads: Arc::clone(&reloads) }));
                Some(opened.map_err(|source| ServeError::Control { path: path.clone(), source })?)
            }
            None => None,
        };
        let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Run)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Run)?;
        let mut hang_up = signal(SignalKind::hangup()).map_err(ServeError::Run)?;
        let address = Address {
            scheme: if tls.is_some() { "https" } else { "http" },
            socket: server.address().map_err(failed)?,
        };
        ready(address, operator_address);
        supervisor::ready();
        tokio::spawn(supervisor::watch(server.liveness()));
        tokio::spawn(async move { log.tell_left_out().await });
        if let Some(tls) = tls {
            tokio::spawn(watch(tls));
        }
        let at_a_terminal = io::stdin().is_terminal();
        let stop = async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    _ = hang_up.recv() => {
                        if at_a_terminal && !io::stdin().is_terminal() {
                            break; // The terminal was closed.
                        }
                        let reloads = Arc::clone(&reloads);
                        // It may read files, and ask for keys; what came of it is in the log.
                        tokio::task::spawn_blocking(move || drop(reloads.reload()));
                    }
                }
            }
            supervisor::stopping();
            tokio::spawn(async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                retry::tell("a second signal: ending at once, without waiting for those who are still here");
                process::exit(1); // Whatever was acknowledged is as durable as it was promised.
            });
        };
        let ended = server.run(engine, shards, stop).await.map_err(ServeError::Run);
        // Beside this thread, on which a second signal is heard.
        let _ = tokio::task::spawn_blocking(move || exporting.end()).await;
        ended
    })
}

/// The configuration and where it comes from, so that it can be read again; the log has begun.
pub(crate) struct Source {
    pub(crate) config: ServeConfig,
    given: Vec<Given>,
    read: Box<Read>,
    log: Log,
}

type Read = dyn Fn() -> Result<(ServeConfig, Vec<Given>), ConfigError> + Send + Sync;

impl Source {
    /// Reads it, and begins the log. Errors: what it cannot mean.
    pub(crate) fn read(
        read: impl Fn() -> Result<(ServeConfig, Vec<Given>), ConfigError> + Send + Sync + 'static,
    ) -> Result<Self, ConfigError> {
        let (config, given) = read()?;
        let log = log::begin(&config.log, config.log_format);
        Ok(Self { config, given, read: Box::new(read), log })
    }

    /// With something of its own in the configuration, also when it is read again.
    pub(crate) fn with(mut self, add: impl Fn(&mut ServeConfig) + Send + Sync + 'static) -> Self {
        add(&mut self.config);
        let read = self.read;
        let again = move || {
            let (mut config, given) = read()?;
            add(&mut config);
            Ok((config, given))
        };
        Self { read: Box::new(again), ..self }
    }
}

/// How what was acknowledged is kept, in a word; `None` if it ends with the process.
fn durability(engine: &config::Engine) -> Option<&'static str> {
    match engine {
        config::Engine::Memory => None,
        config::Engine::Embedded { durability, .. } => Some(match durability {
            config::Durability::Synced => "synced",
            config::Durability::Interval(_) => "interval",
            config::Durability::Os => "os",
        }),
    }
}

fn log_part(log: Log) -> Part {
    let prepare = move |config: &ServeConfig| -> Result<Box<dyn FnOnce()>, String> {
        let (log, filter) = (log.clone(), config.log.clone());
        Ok(Box::new(move || log.set_filter(&filter)))
    };
    Part { keys: &["log"], prepare: Box::new(prepare) }
}

fn named(config: &ServeConfig) -> Origins {
    Origins::named(config.origins.clone()).expect("the configuration was checked")
}

fn origins_part(origins: Origins) -> Part {
    let prepare = move |config: &ServeConfig| -> Result<Box<dyn FnOnce()>, String> {
        let (origins, new) = (origins.clone(), named(config));
        Ok(Box::new(move || origins.reload(&new)))
    };
    Part { keys: &["origins"], prepare: Box::new(prepare) }
}

fn limits_part(limits: Arc<Limits>) -> Part {
    let prepare = move |config: &ServeConfig| -> Result<Box<dyn FnOnce()>, String> {
        let (limits, new) = (Arc::clone(&limits), config.limits.clone());
        Ok(Box::new(move || limits.reload(new)))
    };
    Part { keys: config::LIMIT_KEYS, prepare: Box::new(prepare) }
}

/// Tells of a certificate that ends soon, or does not hold now.
fn tell_trouble(tls: &Tls) {
    if let Some(trouble) = tls.certificate().and_then(|certificate| certificate.trouble(SystemTime::now())) {
        tracing::warn!("tls-cert: {trouble}: renew it, then 'fourfold reload'");
    }
}

/// A server may run for longer than its certificate holds.
async fn watch(tls: Tls) {
    loop {
        tokio::time::sleep(LOOK_AT_CERTIFICATE_EVERY).await;
        tell_trouble(&tls);
    }
}

const LOOK_AT_CERTIFICATE_EVERY: Duration = Duration::from_secs(24 * 3600);

/// The files are read again, also if they have the names of before.
fn tls_part(tls: Option<Tls>) -> Part {
    // Whether TLS is spoken at all is decided at the start.
    let keys: &[_] = if tls.is_some() { &["tls-cert", "tls-key"] } else { &[] };
    let prepare = move |config: &ServeConfig| -> Result<Box<dyn FnOnce()>, String> {
        let (Some(tls), Some(files)) = (tls.clone(), config.tls.clone()) else { return Ok(nothing()) };
        Tls::load(&files.cert, &files.key).map_err(|error| said(&error))?;
        let put = move || match tls.reload_from(&files.cert, &files.key) {
            Ok(()) => tell_trouble(&tls),
            Err(error) => tracing::error!("the certificate of before stays in force: {}", said(&error)),
        };
        Ok(Box::new(put))
    };
    Part { keys, prepare: Box::new(prepare) }
}

fn nothing() -> Box<dyn FnOnce()> {
    Box::new(|| ())
}

/// The last one: it makes and puts its new piece in one step, so that no other part may fail behind it.
fn access_part(access: Access) -> Part {
    let runtime = Handle::current(); // Sets of keys are fetched there, whoever asks for the reload.
    let prepare = move |config: &ServeConfig| -> Result<Box<dyn FnOnce()>, String> {
        let _there = runtime.enter();
        if config.access.is_none() && !access.is_open() {
            // As an editor leaves a file for a moment, or a copy that failed; and the address that is bound is not the file's any more.
            return Err("there are no [access] rules any more, and without them everybody could do everything: \
                        if that is meant, restart the server"
                .into());
        }
        access.reload(config.access.clone()).map_err(|why| format!("[access]: {why}"))?;
        Ok(nothing())
    };
    Part { keys: &[], prepare: Box::new(prepare) }
}

/// Listens for the operator. An address that nobody has asked for may be another one than usual.
fn operator(listen: AdminListen) -> Result<Option<Operator>, ServeError> {
    let bind = |address| Operator::bind(address).map_err(|source| ServeError::Operator { address, source });
    match listen {
        AdminListen::Off => Ok(None),
        AdminListen::At(address) => bind(address).map(Some),
        AdminListen::Preferably(address) => match Operator::bind(address) {
            Ok(operator) => Ok(Some(operator)),
            Err(error) => {
                tracing::warn!(%address, %error, "the usual address for metrics and health is not to be had: a free one is taken");
                bind(SocketAddr::new(address.ip(), 0)).map(Some)
            }
        },
    }
}

fn open(config: &ServeConfig, relay: Relay) -> Result<(Arc<dyn Engine>, Option<Backups>), ServeError> {
    let retention = Retention {
        age_seconds: config.retention.age.map(|age| age.as_secs()),
        bytes: config.retention.bytes,
        records: config.retention.records,
    };
    match &config.engine {
        config::Engine::Memory => Ok((Arc::new(MemoryEngine::new(relay, retention)), None)),
        config::Engine::Embedded { data_dir, durability } => {
            let durability = match *durability {
                config::Durability::Synced => Durability::Synced,
                config::Durability::Interval(every) => Durability::Interval(every),
                config::Durability::Os => Durability::Os,
            };
            let engine = EmbeddedEngine::open(data_dir, EmbeddedOptions { durability, retention }, relay)?;
            let backups = engine.backups();
            Ok((Arc::new(engine), Some(backups)))
        }
    }
}

/// The server, as far as commands on this machine can ask something of it.
struct Running {
    backups: Option<Backups>,
    reloads: Arc<Reloads>,
}

impl Controlled for Running {
    fn reload(&self) -> Result<String, String> {
        self.reloads.reload()
    }

    fn backup(&self, mut out: &UnixStream, ready: &mut dyn FnMut(&str) -> io::Result<()>) -> Result<(), String> {
        let backups = self.backups.as_ref().ok_or("the memory engine has no backup: what it keeps ends with it")?;
        // Of this thread only: appends go first. Where it is denied the backup goes on all the same.
        let _ = setpriority_process(None, BACKUP_NICE);
        ready("a backup follows").map_err(|error| error.to_string())?;
        let summary = backups.write(&mut out).map_err(|error| error.to_string())?;
        tracing::info!(group = summary.group, bytes = summary.bytes, "a backup was taken");
        Ok(())
    }
}

/// How far a backup stands back behind appends and readers.
const BACKUP_NICE: i32 = 10;

/// While this lives, a panic of this thread ends the process with one line that says which directory is damaged.
///
/// The storage stops by a panic on some damaged tables, and by another one while it cleans up after the first, which aborts
/// the process with a hundred lines that help nobody.
struct Opening;

impl Opening {
    fn begin(config: &ServeConfig) -> Self {
        let config::Engine::Embedded { data_dir, .. } = &config.engine else { return Self };
        let tables = data_dir.join("keyspaces");
        let (opening, usual) = (thread::current().id(), panic::take_hook());
        panic::set_hook(Box::new(move |panicked| {
            if thread::current().id() != opening {
                return usual(panicked);
            }
            let why = "the storage stopped while it read them".to_owned();
            retry::tell(&OpenFailure::Broken { file: tables.clone(), why }.to_string());
            process::exit(1);
        }));
        Self
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        // Not the one before, which is inside ours; but nobody sets one in this process.
        let _ = panic::take_hook();
    }
}

/// An error with what is behind it, on one line.
pub(crate) fn said(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The line that supervisors and tests wait for.
pub(crate) fn announce(address: Address, operator: Option<SocketAddr>) {
    say(format_args!("listening on {address}"));
    if let Some(operator) = operator {
        say(format_args!("metrics and health on http://{operator}"));
    }
}

/// A line on standard output. If nobody reads it, the server serves all the same.
pub(crate) fn say(line: std::fmt::Arguments<'_>) {
    let mut out = io::stdout();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
