//! `fourfold serve`: the seam between the command and the server. The only place that knows both.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
    net::SocketAddr,
    os::unix::net::UnixStream,
    panic,
    path::PathBuf,
    process,
    sync::Arc,
    thread,
};

use fourfold_access::{Access, AccessError};
use fourfold_engines::{
    MemoryEngine,
    embedded::{Durability, EmbeddedEngine, EmbeddedOptions, OpenFailure, backup::Backups},
};
use fourfold_server::{CallOptions, Extra, Origins, Server, Settings, SubscriptionOptions, Tls, TlsError};
use fourfold_stream::{Engine, Relay, Retention};
use rustix::process::setpriority_process;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    config::{self, ServeConfig},
    control_socket::{ControlSocket, Controlled},
    retry,
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
/// with the address in force; `extra` answers beside the streams.
pub(crate) fn serve(
    config: ServeConfig,
    extra: Option<Arc<dyn Extra>>,
    ready: impl FnOnce(Address),
) -> Result<(), ServeError> {
    // Only accepts and waits for signals; connections live on threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Run)?;
    runtime.block_on(async {
        let tls = config.tls.as_ref().map(|files| Tls::load(&files.cert, &files.key)).transpose()?;
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
            access: Access::start(config.access.clone()).await?,
            origins: Origins::named(config.origins.clone()).expect("the configuration was checked"),
            tls: tls.clone(),
            extra,
            ..Settings::default()
        };
        if config.insecure_open {
            tracing::warn!(address = %config.listen, "insecure-open: whoever reaches the server may read, append and delete everything");
        }
        let failed = |source| ServeError::Listen { address: config.listen, source };
        // Before the engine is opened: a taken port should not cost a recovery.
        let server = Server::bind(config.listen, settings).await.map_err(failed)?;
        let threads = u16::try_from(config.threads.get()).unwrap_or(u16::MAX);
        let (relay, shards) = Relay::new(threads);
        let (engine, backups) = {
            let _opening = Opening::begin(&config);
            open(&config, relay)?
        };
        let _control = match &config.control_socket {
            Some(path) => {
                let opened = ControlSocket::open(path, Arc::new(Running { backups }));
                Some(opened.map_err(|source| ServeError::Control { path: path.clone(), source })?)
            }
            None => None,
        };
        let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Run)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Run)?;
        ready(Address {
            scheme: if tls.is_some() { "https" } else { "http" },
            socket: server.address().map_err(failed)?,
        });
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        server.run(engine, shards, stop).await.map_err(ServeError::Run)
    })
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
}

impl Controlled for Running {
    fn reload(&self) -> Result<String, String> {
        Err("nothing can be reloaded".into())
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
fn said(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The line that supervisors and tests wait for.
pub(crate) fn announce(address: Address) {
    let mut out = io::stdout();
    // Nobody reads standard output if this fails; the server serves all the same.
    let _ = writeln!(out, "listening on {address}").and_then(|()| out.flush());
}
