//! `fourfold token`: tokens for development, secrets, and what is wrong with a token that is refused.

mod check;
mod mint;
mod secret;
mod words;

use std::{io, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use fourfold_access::{AccessError, Verb, mint::Unsigned};

use crate::config::{self, ConfigError};

/// The arguments of `token`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
    fourfold token --config fourfold.toml --sub ann --read 'news/**' --append 'users/{sub}/**'
    fourfold token check - --config fourfold.toml --verb read --path news/today < token
    fourfold token new-secret > fourfold.secret"
)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: Option<TokenCommand>,
    #[command(flatten)]
    mint: MintArgs,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Explain a token: who signed it, when it ends, what it grants; exit status 0 if the server takes it, else 1
    Check(CheckArgs),
    /// Print a fresh secret for HS256, and on standard error the lines of the configuration that use it
    NewSecret,
}

/// Which configuration says what is good.
#[derive(Debug, Args)]
struct ConfigArgs {
    /// The server's configuration file, with its section on access
    #[arg(long, value_name = "FILE", env = "FOURFOLD_CONFIG")]
    config: Option<String>,
}

/// What a token that is made says.
#[derive(Debug, Args)]
struct MintArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Whom it stands for
    #[arg(long, value_name = "NAME")]
    sub: Option<String>,
    /// Streams that may be read, as '*' for a segment and '**' for any number of them; may be given again, as all of these
    #[arg(long, value_name = "PATTERN")]
    read: Vec<String>,
    /// Streams that may be appended to
    #[arg(long, value_name = "PATTERN")]
    append: Vec<String>,
    /// Streams that may be created
    #[arg(long, value_name = "PATTERN")]
    create: Vec<String>,
    /// Streams that may be deleted
    #[arg(long, value_name = "PATTERN")]
    delete: Vec<String>,
    /// Streams that may be seen in listings; all if no pattern is given
    #[arg(long, value_name = "PATTERN", num_args = 0..=1, default_missing_value = "**")]
    list: Vec<String>,
    /// Names of calls that may be begun; all if no pattern is given
    #[arg(long, value_name = "PATTERN", num_args = 0..=1, default_missing_value = "**")]
    call: Vec<String>,
    /// Control interfaces that may be used, such as 'subscriptions/*'; all if no pattern is given
    #[arg(long, value_name = "PATTERN", num_args = 0..=1, default_missing_value = "**")]
    control: Vec<String>,
    /// How long it is good
    #[arg(long = "for", value_name = "DURATION", default_value = "1h", value_parser = config::duration)]
    good_for: Duration,
    /// Which of the configured keys it is for; if left out the first that signs
    #[arg(long, value_name = "KID")]
    kid: Option<String>,
    /// The private key in PEM, or the secret, that signs it; if left out a configured secret does
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Whom it is for; if left out the configured audience
    #[arg(long, value_name = "NAME")]
    audience: Option<String>,
}

/// What is asked about a token.
#[derive(Debug, Args)]
struct CheckArgs {
    /// The token; '-' reads it from standard input, where nobody else on this machine sees it
    #[arg(value_name = "TOKEN|-", allow_hyphen_values = true)]
    token: String,
    #[command(flatten)]
    config: ConfigArgs,
    /// Also tell whether it grants this: read, append, create, delete, list, call or control
    #[arg(long, value_name = "VERB", requires = "path")]
    verb: Option<Verb>,
    /// On this: a stream's name, a call's name, or what stands behind '__ds/'
    #[arg(long, value_name = "PATH", requires = "verb")]
    path: Option<String>,
}

/// Why there is no token, or nothing to say about one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Unsigned(#[from] Unsigned),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("{what} cannot be read: {why}")]
    Unread { what: String, why: io::Error },
    #[error("nothing can be written: {0}")]
    Write(#[from] io::Error),
}

/// Runs the command; returns its exit status.
pub(crate) async fn token(args: TokenArgs) -> Result<u8, TokenError> {
    match args.command {
        Some(TokenCommand::Check(args)) => check::check(args).await,
        Some(TokenCommand::NewSecret) => secret::new_secret().map(|()| 0),
        None => mint::mint(&args.mint).map(|()| 0),
    }
}
