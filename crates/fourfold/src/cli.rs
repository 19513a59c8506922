//! What can be typed: the commands and their arguments. The server's settings are defined in `config/settings.rs`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    bench::BenchArgs,
    check::CheckArgs,
    client::Token,
    config::{self, Flags},
    reload::ReloadArgs,
    token::TokenArgs,
};

/// One stream, one URL, four transports: a realtime delivery server and its clients.
#[derive(Debug, Parser)]
#[command(name = "fourfold", version, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server; prints 'listening on http://ADDRESS' when it is ready
    Serve(Flags),
    /// Run the server, open to everybody, and feed it this machine's vitals, four records a second, as the stream 'demo/vitals'
    Demo(Flags),
    /// Hash and compress every file under a folder, or under one that is made, telling the progress in lines of JSON: the
    /// demo's heavy task
    #[command(hide = true)]
    Pack {
        /// If left out, one of {"megabytes": 1 to 512} is made, as standard input says
        #[arg(value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
    /// Copy everything that a server keeps into one file, while it runs or while none does
    Backup(BackupArgs),
    /// Make a data directory from a backup, or check that a backup is whole
    Restore(RestoreArgs),
    /// Explain a configuration without starting: each setting, where it came from, which limits are in force, when the certificate ends, what
    /// follows from all that, what is risky; fails if the server could not be spoken to
    Check(CheckArgs),
    /// Have the running server read its configuration again, without anybody being dropped
    Reload(ReloadArgs),
    /// Append lines to a stream, each once, also if the server restarts meanwhile
    Append(AppendArgs),
    /// Print a stream's records as they come
    Tail(TailArgs),
    /// Start a call on the server and show what comes out of it, as it comes
    Call(CallArgs),
    /// Make a token for development, explain one, or make a secret
    Token(Box<TokenArgs>),
    /// Measure what a server delivers, how soon, and what that costs it
    Bench(Box<BenchArgs>),
}

/// Where a server listens that was not told.
pub(crate) const URL_DEFAULT: &str = "http://127.0.0.1:4437";

/// Which server, and how to come to it.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The server, http:// or https://
    #[arg(long, visible_alias = "server", env = "FOURFOLD_URL", default_value = URL_DEFAULT, value_name = "URL")]
    pub(crate) url: String,
    /// What the server is shown as 'Authorization: Bearer'; better in the variable, where other users of this machine do not see it.
    /// To another machine it should go by https: without, there is a warning
    #[arg(long, env = "FOURFOLD_TOKEN", hide_env_values = true, value_name = "TOKEN", value_parser = Token::parse)]
    pub(crate) token: Option<Token>,
    /// With https: an authority to trust beside those of this system, or the server's own certificate; PEM
    #[arg(long, env = "FOURFOLD_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

/// Which stream on which server.
#[derive(Debug, Args)]
pub(crate) struct StreamArgs {
    /// The stream, for example demo/vitals
    #[arg(value_name = "STREAM")]
    pub(crate) stream: String,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// The arguments of `backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The data directory; a server that has it open is asked at its control socket
    #[arg(long, env = "FOURFOLD_DATA_DIR", default_value = "./fourfold-data", value_name = "DIRECTORY")]
    pub(crate) data_dir: PathBuf,
    /// The control socket of the server, if it is not in the data directory
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// The file to write, '-' for standard output. It gets this name once it is whole
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
}

/// The arguments of `restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup, '-' for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Where to restore it: a directory that is empty or not there
    #[arg(long, value_name = "DIRECTORY", required_unless_present = "verify")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Only check that the backup is whole
    #[arg(long, conflicts_with = "data_dir")]
    pub(crate) verify: bool,
}

/// The arguments of `append`.
#[derive(Debug, Args)]
pub(crate) struct AppendArgs {
    #[command(flatten)]
    pub(crate) at: StreamArgs,
    /// What to append, standard input if left out. In a text stream each line is a record and keeps its line break;
    /// in a JSON stream each line is a value, and blank lines are skipped
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Go on with what is added to FILE, as 'tail -F' does: through truncation, rotation and absence
    #[arg(long, requires = "file", conflicts_with_all = ["whole", "close"])]
    pub(crate) follow: bool,
    /// The content type of the stream; if left out, the stream's own, or text/plain for a new one
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,
    /// Short for --content-type application/json
    #[arg(long, conflicts_with = "content_type")]
    pub(crate) json: bool,
    /// Append the input as one record
    #[arg(long)]
    pub(crate) whole: bool,
    /// Close the stream at the end
    #[arg(long)]
    pub(crate) close: bool,
    /// Give up when the server cannot be reached for so long; if left out 60s, with --follow never
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    pub(crate) retry_for: Option<Duration>,
}

impl AppendArgs {
    /// What was asked for, if anything was.
    pub(crate) fn asked_content_type(&self) -> Option<&str> {
        if self.json { Some("application/json") } else { self.content_type.as_deref() }
    }
}

/// The arguments of `tail`.
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    pub(crate) at: StreamArgs,
    /// How to read
    #[arg(long, value_enum, default_value = "websocket")]
    pub(crate) transport: TransportArg,
    /// Where to begin: '-1' is the oldest record kept, 'now' what comes from now on, else an offset
    #[arg(long, default_value = "now", value_name = "-1|now|OFFSET", allow_hyphen_values = true)]
    pub(crate) offset: String,
    /// Stop after so many records
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Print whole messages with their offsets, one JSON object a line, instead of bare records
    #[arg(long)]
    pub(crate) json: bool,
    /// Give up when the server cannot be reached for so long; if left out, never
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    pub(crate) retry_for: Option<Duration>,
}

/// The arguments of `call`.
#[derive(Debug, Args)]
#[command(after_help = "\
Records of JSON are printed a line each, all else as it came. The end is told on standard error.
Exit status: 0 finished, 1 failed or timed out, 2 refused, 3 cancelled, 4 interrupted by the server's end,
130 after Ctrl-C, which leaves the call running.")]
pub(crate) struct CallArgs {
    /// Which of the calls that the server has configured, and what to pass on, for example report/2026?lang=de
    #[arg(value_name = "NAME[/REST]", required_unless_present_any = ["resume", "cancel"])]
    pub(crate) call: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The request's body: a text, '@FILE' for what is in a file, '-' for standard input
    #[arg(long, value_name = "TEXT|@FILE|-", allow_hyphen_values = true)]
    pub(crate) data: Option<String>,
    /// Its content type; if left out, what it looks like: JSON, text or bytes
    #[arg(long, value_name = "TYPE", requires = "data")]
    pub(crate) content_type: Option<String>,
    /// The same key is the same call: it is not executed again
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Only print the call's id
    #[arg(long)]
    pub(crate) detach: bool,
    /// Show a call that was begun before, from its start or from --offset
    #[arg(long, value_name = "ID", conflicts_with_all = ["call", "data", "key", "detach"])]
    pub(crate) resume: Option<String>,
    /// With --resume: where to begin
    #[arg(long, default_value = "-1", value_name = "OFFSET", conflicts_with_all = ["call", "cancel"], allow_hyphen_values = true)]
    pub(crate) offset: String,
    /// Cancel a call that runs
    #[arg(long, value_name = "ID", conflicts_with_all = ["call", "data", "key", "detach", "resume"])]
    pub(crate) cancel: Option<String>,
    /// How to read
    #[arg(long, value_enum, default_value = "websocket")]
    pub(crate) transport: TransportArg,
    /// Tell the end as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Give up when the server cannot be reached for so long; if left out 60s to begin, and never after that
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    pub(crate) retry_for: Option<Duration>,
}

/// The four ways to read a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TransportArg {
    /// One connection, messages
    Websocket,
    /// One answer without end, events
    Sse,
    /// One answer in portions for as long as the server waits, then the next
    LongPoll,
    /// Ask, and ask again when the server advises
    ShortPoll,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_names_flag_variable_and_default_of_a_setting() {
        let mut command = Cli::command();
        let serve = command.find_subcommand_mut("serve").unwrap();
        let help = serve.render_long_help().to_string();
        for part in [
            "--data-dir <DIRECTORY>",
            "[env: FOURFOLD_DATA_DIR]",
            "[default: ./fourfold-data]",
            "survives a power loss",
        ] {
            assert!(help.contains(part), "{part} in {help}");
        }
    }

    #[test]
    fn follow_needs_a_file_and_excludes_what_needs_an_end() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("fourfold append s --follow f").is_ok());
        assert!(parse("fourfold append s --follow").is_err());
        assert!(parse("fourfold append s --follow f --close").is_err());
        assert!(parse("fourfold tail s --offset -1 --transport short-poll").is_ok());
        assert!(parse("fourfold serve --listen 127.0.0.1:0 --config x.toml").is_ok());
    }

    #[test]
    fn a_call_is_begun_resumed_or_cancelled() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        for good in
            ["report", "report --data - --server http://h", "--resume x --offset 1", "--cancel x", "report --detach"]
        {
            assert!(parse(&format!("fourfold call {good}")).is_ok(), "{good}");
        }
        for bad in
            ["--detach", "report --resume x", "--resume x --cancel y", "report --offset 1", "report --content-type a/b"]
        {
            assert!(parse(&format!("fourfold call {bad}")).is_err(), "{bad}");
        }
    }
}
