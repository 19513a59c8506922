//! What can be typed behind `fourfold bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::record::{RECORD_BYTES_MAX, RECORD_BYTES_MIN};

const WHAT: &str = "What is measured";
const LOAD: &str = "The load";
const RESULT: &str = "The result";

const EXAMPLES: &str = "\
Examples:
  A thousand readers of one stream, by server-sent events:
    fourfold bench --transport sse --subscribers 1000
  What ten thousand connections cost that only wait:
    fourfold bench --idle 10000 --subscribers 0 --writers 0 --seconds 1
  Durable appends as fast as they are acknowledged, 64 at once:
    fourfold bench --streams 16 --writers 4 --rate 0 --subscribers 16
  A server that runs, of another kind:
    fourfold bench http://127.0.0.1:8080 --server-pid 4242 --profile nchan

Every record carries its number and the time at which it was due, so that losses, doubles and wrong order are counted, and a
server that stalls pays for all the records that had to wait. The exit status is 1 if the server did not do what it acknowledged.";

/// The arguments of `bench`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    /// The server, for example http://127.0.0.1:4437, without TLS; if left out, one is started for the run
    #[arg(value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The server's process, to measure its CPU time and memory with those of its children
    #[arg(help_heading = WHAT, long, value_name = "PID", requires = "url")]
    pub(crate) server_pid: Option<u32>,
    /// What the server speaks
    #[arg(help_heading = WHAT, long, value_enum, default_value = "fourfold")]
    pub(crate) profile: Profile,
    /// How to read
    #[arg(help_heading = LOAD, long, value_enum, default_value = "websocket")]
    pub(crate) transport: Transport,
    /// How many readers there are, dealt out over the streams
    #[arg(help_heading = LOAD, long, default_value = "100", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub(crate) subscribers: u32,
    /// How many streams there are
    #[arg(help_heading = LOAD, long, default_value = "1", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) streams: u32,
    /// Records a second appended to each stream; 0 is as fast as they are acknowledged
    #[arg(help_heading = LOAD, long, default_value = "50", value_name = "RECORDS")]
    pub(crate) rate: f64,
    /// How many connections append to each stream; 0 appends nothing, to measure readers that wait
    #[arg(help_heading = LOAD, long, default_value = "1", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(..=10_000))]
    pub(crate) writers: u32,
    /// How many appends of each writer may be unacknowledged (sent one behind the other on its connection)
    #[arg(help_heading = LOAD, long, default_value = "1", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) in_flight: u32,
    /// How many records go into one append
    #[arg(help_heading = LOAD, long, default_value = "1", value_name = "RECORDS", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) batch: u32,
    /// How long a record is
    #[arg(help_heading = LOAD, long, default_value = "128", value_name = "BYTES", value_parser = clap::value_parser!(u32).range(i64::from(RECORD_BYTES_MIN)..=i64::from(RECORD_BYTES_MAX)))]
    pub(crate) size: u32,
    /// How long to measure
    #[arg(help_heading = LOAD, long, default_value = "10", value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) seconds: u32,
    /// How long to append before, unmeasured
    #[arg(help_heading = LOAD, long, default_value = "1", value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(..=3_600))]
    pub(crate) warm_up: u32,
    /// Readers of a stream to which nothing is appended until the end; tells what each costs in memory
    #[arg(help_heading = LOAD, long, default_value = "0", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub(crate) idle: u32,
    /// Readers that ask and then never read; their receive buffers have 64 KiB
    #[arg(help_heading = LOAD, long, default_value = "0", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(..=100_000))]
    pub(crate) stalled: u32,
    /// How often a short poll asks when there was nothing new
    #[arg(help_heading = LOAD, long, default_value = "1000", value_name = "MILLISECONDS", value_parser = clap::value_parser!(u32).range(1..=3_600_000))]
    pub(crate) interval: u32,
    /// The engine of the server that is started
    #[arg(help_heading = WHAT, long, value_name = "ENGINE", conflicts_with = "url", value_parser = ["embedded", "memory"])]
    pub(crate) engine: Option<String>,
    /// A further setting of the server that is started, for example threads=1
    #[arg(help_heading = WHAT, long, value_name = "SETTING=VALUE", conflicts_with = "url")]
    pub(crate) serve: Vec<String>,
    /// Where the server that is started keeps its data; if left out, a temporary directory
    #[arg(help_heading = WHAT, long, value_name = "DIRECTORY", conflicts_with = "url")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The path to append to, with {id} for the stream; if left out, that of the profile
    #[arg(help_heading = WHAT, long, value_name = "PATH")]
    pub(crate) publish_path: Option<String>,
    /// The path to read from, with {id} for the stream; if left out, that of the profile
    #[arg(help_heading = WHAT, long, value_name = "PATH")]
    pub(crate) subscribe_path: Option<String>,
    /// Measure a bare loop of writes instead of a server: the least that the same deliveries can cost here
    #[arg(help_heading = WHAT, long, requires = "floor_command", conflicts_with_all = ["url", "engine", "serve", "data_dir", "idle", "stalled"])]
    pub(crate) floor: bool,
    /// The program with that loop; it is called with SUBSCRIBERS WAKES-A-SECOND SECONDS BYTES RECORDS-A-WAKE
    #[arg(help_heading = WHAT, long, value_name = "PATH", requires = "floor")]
    pub(crate) floor_command: Option<PathBuf>,
    /// Also load a server on another machine
    #[arg(help_heading = WHAT, long)]
    pub(crate) allow_remote: bool,
    /// Also write the results as JSON, to a file or with '-' to standard output (then without the table)
    #[arg(help_heading = RESULT, long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// Fourfold
    Fourfold,
    /// The base protocol; URL is what stands before a stream's name
    DurableStreams,
    /// nginx with nchan; POST /pub?id= and GET /sub?id= (short poll: /poll?id=) unless given otherwise
    Nchan,
    /// A Socket.IO server that joins each connection to the room of its query's id and emits what is posted to /pub?id=, as
    /// a string, as the event 'b'
    Socketio,
}

/// How a server is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// One connection, messages
    Websocket,
    /// One answer without end, events
    Sse,
    /// An answer when there is something; the next request as soon as it is whole
    LongPoll,
    /// One answer in portions for as long as the server waits, then the next
    Portions,
    /// An answer at once; the next request after --interval
    ShortPoll,
}
