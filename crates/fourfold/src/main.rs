//! The command `fourfold`: the server, and clients of it for people and scripts.
//!
//! - [`cli`]: what can be typed; [`config`]: what it means to the server
//! - [`serve`], [`demo`]: the server, and the same with scenarios that use it; [`control_socket`]: how commands speak to it
//! - [`check`]: what a configuration means; [`reload`]: it is read again; [`log`], [`supervisor`]: what the server says to whom it concerns
//! - [`backup`]: a copy of what a server keeps, and the way back
//! - [`traces`]: of appends, to a collector; with the feature `otel`
//! - [`append`]: the way in, by the idempotent [`producer`]; [`tail`]: the way out, by four transports; [`call`]: both, with a server that does the work between
//! - [`token`]: tokens for development, and what is wrong with one
//! - [`mod@bench`]: a load generator
//! - [`client`], [`failure`], [`websocket`], [`event_stream`], [`message`], [`answer`], [`retry`], [`trust`]: the client's side of the wire

mod answer;
mod append;
mod backup;
mod bench;
mod call;
mod check;
mod cli;
mod client;
mod config;
mod control_socket;
mod demo;
mod event_stream;
mod failure;
mod log;
mod message;
mod producer;
mod reload;
mod retry;
mod serve;
mod supervisor;
mod tail;
mod token;
mod traces;
mod trust;
mod websocket;

use std::process::ExitCode;

use clap::Parser;

use bench::RunError;
use cli::{Cli, Command};
use config::{ConfigError, Flags};
use serve::Source;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Why a command ended otherwise than asked.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Serve(#[from] serve::ServeError),
    #[error(transparent)]
    Pack(#[from] demo::PackError),
    #[error(transparent)]
    Append(#[from] append::AppendError),
    #[error(transparent)]
    Tail(#[from] tail::TailError),
    #[error(transparent)]
    Call(#[from] call::CallError),
    #[error(transparent)]
    Token(#[from] token::TokenError),
    #[error(transparent)]
    Bench(#[from] bench::BenchError),
    #[error(transparent)]
    Check(#[from] check::CheckError),
    #[error(transparent)]
    Reload(#[from] control_socket::AskError),
    #[error(transparent)]
    Copy(#[from] backup::CopyError),
    #[error("the runtime does not start: {0}")]
    Runtime(#[from] std::io::Error),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            retry::tell(&error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}

/// Returns the exit status of a command that did what it was for.
fn run(command: Command) -> Result<u8, CommandError> {
    match command {
        Command::Serve(flags) => serve::serve(configured(flags)?, None, serve::announce)?,
        Command::Demo(flags) => demo::demo(configured(flags)?)?,
        Command::Check(args) => check::check(&args)?,
        Command::Reload(args) => reload::reload(&args)?,
        Command::Pack { folder } => client_runtime()?.block_on(demo::pack(folder))?,
        Command::Backup(args) => backup::backup(&args)?,
        Command::Restore(args) => backup::restore(&args)?,
        Command::Append(args) => client_runtime()?.block_on(append::append(args))?,
        Command::Bench(args) => bench::bench(&args)?,
        Command::Token(args) => return Ok(client_runtime()?.block_on(token::token(*args))?),
        Command::Tail(args) => client_runtime()?.block_on(tail::tail(args))?,
        Command::Call(args) => return Ok(client_runtime()?.block_on(call::call(args))?),
    }
    Ok(0)
}

/// The server's configuration; the log begins with it.
fn configured(flags: Flags) -> Result<Source, ConfigError> {
    Source::read(move || config::ServeConfig::explained(&flags))
}

fn client_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

impl CommandError {
    /// 2 for what would be refused again as it was typed, 130 for Ctrl-C, 1 for the rest.
    fn exit_code(&self) -> u8 {
        use append::AppendError as Append;
        use bench::BenchError as Bench;
        use tail::TailError as Tail;
        use token::TokenError as Token;
        match self {
            Self::Call(error) => error.status(),
            Self::Copy(error) => error.status(),
            Self::Check(check::CheckError::Config(_) | check::CheckError::Nobody) => 2,
            Self::Serve(serve::ServeError::DemoAccess) => 2,
            Self::Config(_) | Self::Append(Append::Address(_) | Append::NoLines(_)) => 2,
            Self::Token(Token::Config(_) | Token::Usage(_) | Token::Unsigned(_) | Token::Access(_)) => 2,
            Self::Tail(Tail::Address(_) | Tail::Refused(_)) => 2,
            Self::Bench(Bench::Plan(_) | Bench::Target(_)) => 2,
            Self::Bench(Bench::Run(RunError::Interrupted)) => 130,
            Self::Append(Append::Interrupted { .. }) | Self::Tail(Tail::Interrupted { .. }) => 130,
            _ => 1,
        }
    }
}
