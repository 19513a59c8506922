//! `fourfold call`: starts a call, or goes on with one, and shows what comes out of it until it has ended.
//!
//! ```text
//! begin ──▶ tail's Reader, over calls/{id} ──▶ Portions (standard output)
//!                                     └──▶ Show (a bar on the terminal) ──▶ Ending (one line, and the exit status)
//! ```
//!
//! Promises: a call is begun once, however often the request had to be repeated; what comes out is printed once, through cuts and restarts of the
//! server; whoever leaves is told how to go on, and the call does.

mod begin;
mod ending;
mod portions;
mod show;

use std::io;

use crate::{
    cli::CallArgs,
    client::{AddressError, Client, Server},
    retry::{GaveUp, tell},
    tail::{Reader, TailError},
};
use begin::Requests;
use ending::Ending;
use portions::Portions;
use show::Show;

/// Why the command ended otherwise than by the end of its call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The server's URL, the call or the id.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// What was typed as the call.
    #[error("'{call}' is not a call: {why}")]
    Name {
        /// As it was typed.
        call: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The body of the request.
    #[error("the data cannot be read: {0}")]
    Data(String),
    /// The server refused.
    #[error("{0}")]
    Refused(String),
    /// It took too long to begin.
    #[error(transparent)]
    GaveUp(#[from] GaveUp),
    /// Ctrl-C before the server has said which call it is.
    #[error(
        "interrupted, and whether the call has begun is not known: the same command with --key {key} finds it, or begins it"
    )]
    Unknown {
        /// The key of the request.
        key: String,
    },
    /// What came out stopped before the end.
    #[error("{why}; the call goes on, follow it with: {resume}")]
    Left {
        /// Why.
        why: String,
        /// The command.
        resume: String,
    },
    /// Ctrl-C.
    #[error("interrupted; the call {id} goes on, follow it with: {resume}")]
    Interrupted {
        /// The call's.
        id: String,
        /// The command.
        resume: String,
    },
    /// Standard output does not take it.
    #[error("standard output cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// The exit status of a command that has seen its call finish.
const FINISHED: u8 = 0;

/// Runs the command. Returns its exit status: that of the call's end, see [`Ending::status`].
pub(crate) async fn call(args: CallArgs) -> Result<u8, CallError> {
    let server = Server::new(&args.server)?;
    let requests = Requests::new(server.clone(), args.retry_for);
    if let Some(id) = &args.cancel {
        requests.cancel(bare(id)).await?;
        tell(&format!("the call {} is cancelled", bare(id)));
        return Ok(FINISHED);
    }
    let id = match (&args.resume, &args.call) {
        (Some(id), _) => bare(id).to_owned(),
        (None, Some(call)) => requests.begin(call, &args).await?,
        (None, None) => unreachable!("one of them is required"),
    };
    if args.detach {
        use io::Write;
        writeln!(io::stdout(), "{id}")?;
        return Ok(FINISHED);
    }
    follow(&args, server, &id).await
}

async fn follow(args: &CallArgs, server: Server, id: &str) -> Result<u8, CallError> {
    let client = Client::new(server, &format!("calls/{id}"))?;
    let portions = Portions::new(io::stdout(), Show::begin());
    let mut reader = Reader::new(client, args.offset.clone(), portions, args.retry_for);
    let done = tokio::select! {
        done = reader.run(args.transport) => Some(done),
        _ = tokio::signal::ctrl_c() => None,
    };
    reader.output.end();
    let resume = resume(args, id, reader.offset());
    let Some(done) = done else { return Err(CallError::Interrupted { id: id.to_owned(), resume }) };
    match done {
        Ok(()) => {}
        Err(TailError::Output(error)) => return Err(error.into()),
        Err(TailError::Address(error)) => return Err(error.into()),
        Err(TailError::GaveUp { source, .. }) => return Err(CallError::Left { why: source.to_string(), resume }),
        Err(refused) => return Err(CallError::Refused(refused.to_string())),
    }
    if !reader.output.closed {
        // Whoever read standard output has had enough, as `head` does.
        return Ok(FINISHED);
    }
    let ending = Ending::read(reader.output.ending.take());
    ending.tell(args.json);
    Ok(ending.status())
}

/// The command that goes on from here, as it can be pasted.
fn resume(args: &CallArgs, id: &str, offset: &str) -> String {
    use std::fmt::Write;
    let mut command = format!("fourfold call --resume {id}");
    if offset != START {
        let _ = write!(command, " --offset {offset}");
    }
    if args.server.url != crate::cli::URL_DEFAULT {
        let _ = write!(command, " --url {}", args.server.url);
    }
    if let Some(ca) = &args.server.ca {
        let _ = write!(command, " --ca {}", quoted(&ca.display().to_string()));
    }
    command
}

/// For a shell.
fn quoted(text: &str) -> String {
    match text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+,:@".contains(c)) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// The oldest record kept.
const START: &str = "-1";

/// An id may be given as its stream.
fn bare(id: &str) -> &str {
    id.strip_prefix("calls/").unwrap_or(id)
}

impl CallError {
    /// 2 for what would be refused again as it was typed, 130 for Ctrl-C, 1 for the rest.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Address(_) | Self::Name { .. } | Self::Data(_) | Self::Refused(_) => 2,
            Self::Interrupted { .. } | Self::Unknown { .. } => 130,
            Self::GaveUp(_) | Self::Left { .. } | Self::Output(_) => 1,
        }
    }
}
