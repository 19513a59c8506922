//! What is measured: a server that runs, one that is started for the run, or the floor.

use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::{args::BenchArgs, head, plan::Plan, probe::Tree};

/// What is measured.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// Host and port, as typed.
    pub(crate) host: String,
    /// What stands before every path.
    pub(crate) prefix: String,
    /// Its processes, if they are known.
    pub(crate) tree: Option<Tree>,
    child: Option<Started>,
}

/// Why there is nothing to measure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    /// Not an address.
    #[error("'{0}' is not a server's URL; write it as http://127.0.0.1:4437")]
    Url(String),
    /// TLS would be measured on both sides.
    #[error(
        "'{0}': bench speaks plain HTTP only, as it would measure its own encryption otherwise; leave the URL out to have a server started, or give the address of one without TLS"
    )]
    Tls(String),
    /// Nobody knows the host.
    #[error("the address of {host} is not known: {why}")]
    Unknown {
        /// As typed.
        host: String,
        /// What the system said.
        why: io::Error,
    },
    /// Somebody else's machine.
    #[error(
        "{0} is not this machine, and this load may stop a server and the network before it; if they are yours to stop, add --allow-remote"
    )]
    Remote(SocketAddr),
    /// Its processes cannot be looked at.
    #[error("process {pid} cannot be measured: {why}")]
    Pid {
        /// As typed.
        pid: u32,
        /// What the system said.
        why: io::Error,
    },
    /// The server or the floor does not start.
    #[error("{what} does not start: {why}")]
    Start {
        /// Which program.
        what: String,
        /// Why not.
        why: String,
    },
}

/// How long a server may take until it listens: a recovery of a large data directory.
const START_MAX: Duration = Duration::from_secs(120);

/// How long it may take to answer a request that is no part of the load.
const ANSWER_MAX: Duration = Duration::from_secs(30);

impl Target {
    /// Finds or starts it.
    pub(crate) fn find(args: &BenchArgs, plan: &Plan) -> Result<Self, TargetError> {
        if let Some(program) = &plan.floor {
            let Plan { subscribers, measured, record_bytes, batch, .. } = plan;
            let wakes = plan.append_every.map_or(1.0, |every| 1.0 / every.as_secs_f64());
            let typed = format!("{subscribers} {wakes:.3} {} {record_bytes} {batch}", measured.as_secs());
            let arguments = typed.split(' ').map(OsString::from).collect();
            return Self::start(program.clone(), arguments, None, false);
        }
        let Some(url) = &args.url else { return Self::serve(args) };
        let (host, prefix, address) = resolve(url)?;
        if !address.ip().is_loopback() && !args.allow_remote {
            return Err(TargetError::Remote(address));
        }
        let tree = match args.server_pid {
            Some(pid) => Some(Tree::of(pid).map_err(|why| TargetError::Pid { pid, why })?),
            None => None,
        };
        Ok(Self { address, host, prefix, tree, child: None })
    }

    /// Says something that is no part of the load, and returns the status of the answer.
    pub(crate) fn request(&self, request: &[u8]) -> io::Result<u16> {
        let mut socket = TcpStream::connect(self.address)?;
        socket.set_read_timeout(Some(ANSWER_MAX))?;
        socket.write_all(request)?;
        let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            match socket.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => answer.extend_from_slice(&piece[..read]),
            }
            match head::parse(&answer) {
                Ok(Some(head)) => return Ok(head.status),
                Ok(None) => {}
                Err(why) => return Err(io::Error::new(io::ErrorKind::InvalidData, why)),
            }
        }
    }

    /// Whether what is written to it outlives it.
    pub(crate) fn keeps(&self) -> bool {
        self.child.as_ref().is_none_or(|started| started.is_kept)
    }

    fn serve(args: &BenchArgs) -> Result<Self, TargetError> {
        let what = "the server".to_owned();
        let failed = |why: io::Error| TargetError::Start { what: what.clone(), why: why.to_string() };
        let mut arguments =
            vec!["serve".into(), "--listen".into(), "127.0.0.1:0".into(), "--log".into(), "warn".into()];
        if let Some(engine) = &args.engine {
            arguments.extend(["--engine".into(), engine.into()]);
        }
        let is_on_disk = args.engine.as_deref() != Some("memory");
        let own_dir = (is_on_disk && args.data_dir.is_none())
            .then(|| std::env::temp_dir().join(format!("fourfold-bench-{}", std::process::id())));
        if let Some(dir) = own_dir.as_ref().or(args.data_dir.as_ref()).filter(|_| is_on_disk) {
            arguments.extend(["--data-dir".into(), dir.into()]);
        }
        for setting in &args.serve {
            let why = || format!("'{setting}' is not a setting; write it as threads=1");
            let (name, value) =
                setting.split_once('=').ok_or_else(|| TargetError::Start { what: what.clone(), why: why() })?;
            arguments.extend([format!("--{name}").into(), value.into()]);
        }
        let is_kept = is_on_disk && args.data_dir.is_some();
        Self::start(std::env::current_exe().map_err(failed)?, arguments, own_dir, is_kept)
    }

    fn start(
        program: PathBuf,
        arguments: Vec<OsString>,
        own_dir: Option<PathBuf>,
        is_kept: bool,
    ) -> Result<Self, TargetError> {
        let what = program.display().to_string();
        let failed = |why: String| TargetError::Start { what: what.clone(), why };
        let mut command = Command::new(&program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let stdout = child.stdout.take().ok_or_else(|| failed("standard output was piped".into()))?;
        let tree = Tree::of(child.id()).ok();
        let child = Started { child, own_dir, is_kept };
        let (line, first) = mpsc::channel();
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            // Nobody waits any more if this fails.
            let _ = line.send(lines.next().and_then(Result::ok).unwrap_or_default());
            // Read on, so that a server that says more is not held up.
            lines.for_each(drop);
        });
        let line = first.recv_timeout(START_MAX).map_err(|_| failed("it says nothing".into()))?;
        let url =
            line.trim().strip_prefix("listening on ").ok_or_else(|| failed("it ended before it listened".into()))?;
        let (host, prefix, address) = resolve(url)?;
        Ok(Self { address, host, prefix, tree, child: Some(child) })
    }
}

/// Host, path and address of a URL.
fn resolve(url: &str) -> Result<(String, String, SocketAddr), TargetError> {
    let wrong = || TargetError::Url(url.to_owned());
    if url.starts_with("https://") {
        return Err(TargetError::Tls(url.to_owned()));
    }
    let rest = url.strip_prefix("http://").ok_or_else(wrong)?.trim_end_matches('/');
    if rest.is_empty() || rest.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '@')) {
        return Err(wrong());
    }
    let (host, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let with_port = if has_port { host.to_owned() } else { format!("{host}:80") };
    let unknown = |why| TargetError::Unknown { host: host.to_owned(), why };
    let address = with_port.to_socket_addrs().map_err(unknown)?.next().ok_or_else(wrong)?;
    Ok((host.to_owned(), prefix.to_owned(), address))
}

/// A process that ends with the run, and its data.
#[derive(Debug)]
struct Started {
    child: Child,
    /// Removed with it.
    own_dir: Option<PathBuf>,
    is_kept: bool,
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended by itself, and there may be nothing to remove.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(dir) = &self.own_dir {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let (host, prefix, address) = resolve("http://127.0.0.1:8080/v1/stream/").unwrap();
        assert_eq!((host.as_str(), prefix.as_str()), ("127.0.0.1:8080", "/v1/stream"));
        assert_eq!(address, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(resolve("http://127.0.0.1").unwrap().2.port(), 80);
        assert!(matches!(resolve("https://h"), Err(TargetError::Tls(_))));
        for url in ["h:1", "http://", "http://a b", "http://h?x"] {
            assert!(matches!(resolve(url), Err(TargetError::Url(_))), "{url}");
        }
    }
}
