//! What a run does, checked: [`BenchArgs`] with nothing left to refuse.

use std::{path::PathBuf, time::Duration};

use super::args::{BenchArgs, Profile, Transport};
use crate::config;

/// A run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) profile: Profile,
    pub(crate) transport: Transport,
    /// Instead of a server.
    pub(crate) floor: Option<PathBuf>,
    pub(crate) subscribers: usize,
    pub(crate) streams: usize,
    /// Between two appends to one stream; `None`: as fast as they are acknowledged.
    pub(crate) append_every: Option<Duration>,
    pub(crate) writers: usize,
    pub(crate) in_flight: usize,
    pub(crate) batch: usize,
    pub(crate) record_bytes: usize,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    pub(crate) idle: usize,
    pub(crate) stalled: usize,
    pub(crate) interval: Duration,
    pub(crate) publish_path: Option<String>,
    pub(crate) subscribe_path: Option<String>,
}

/// Why a run does not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// The server does not have this transport.
    #[error("--transport {transport} is not spoken with --profile {profile}; choose {choices}")]
    Transport {
        /// As typed.
        transport: String,
        /// As typed.
        profile: String,
        /// What is.
        choices: &'static str,
    },
    /// Only our own server can be started.
    #[error("--profile {0} needs the URL of a server that runs; only fourfold's own is started for a run")]
    NoServer(String),
    /// Not a rate.
    #[error("--rate {0} is no rate; give records a second from 0.001 to 10000000, or 0")]
    Rate(f64),
    /// A body that servers refuse.
    #[error("an append of {0} bytes is more than servers take; --batch times --size may be 16 MiB")]
    Append(u64),
    /// Not that many files.
    #[error(
        "{wanted} connections are more than the {allowed} that this process may open; raise the hard limit ('ulimit -Hn')"
    )]
    Files {
        /// Connections of the run.
        wanted: u64,
        /// What the system allows.
        allowed: u64,
    },
    /// A template without a place for the stream.
    #[error("{0} must hold {{id}} where the stream's name goes, and begin with a slash")]
    Path(&'static str),
}

/// What a default server takes in one body.
const APPEND_BYTES_MAX: u64 = 16 << 20;

/// Files that are no connections of the run: the standard streams, the loops' own, those of `/proc`.
const FILES_RESERVED: u64 = 64;

impl Plan {
    /// Understands what was typed. Raises the limit of open files to what the system allows.
    pub(crate) fn new(args: &BenchArgs) -> Result<Self, PlanError> {
        Self::understand(args, config::files_max())
    }

    fn understand(args: &BenchArgs, files_max: u64) -> Result<Self, PlanError> {
        use Transport::{LongPoll, Portions, ShortPoll, Sse, Websocket};
        let choices = match args.profile {
            _ if args.floor => "websocket",
            Profile::Fourfold => "websocket, sse, long-poll, portions or short-poll",
            Profile::DurableStreams => "sse, long-poll or short-poll",
            Profile::Nchan => "websocket, sse, long-poll or short-poll",
            Profile::Socketio => "websocket",
        };
        let is_spoken = match args.transport {
            Websocket => args.profile != Profile::DurableStreams,
            Portions => args.profile == Profile::Fourfold && !args.floor,
            Sse | LongPoll | ShortPoll => args.profile != Profile::Socketio && !args.floor,
        };
        if !is_spoken {
            let (transport, profile) = (typed(args.transport), typed(args.profile));
            return Err(PlanError::Transport { transport, profile, choices });
        }
        if args.url.is_none() && !args.floor && args.profile != Profile::Fourfold {
            return Err(PlanError::NoServer(typed(args.profile)));
        }
        if args.rate != 0.0 && !(0.001..=10_000_000.0).contains(&args.rate) || args.floor && args.rate == 0.0 {
            return Err(PlanError::Rate(args.rate));
        }
        let append_bytes = u64::from(args.batch) * u64::from(args.size + 1);
        if append_bytes > APPEND_BYTES_MAX {
            return Err(PlanError::Append(append_bytes));
        }
        let writers = u64::from(args.writers) * u64::from(args.streams);
        let wanted = u64::from(args.subscribers) + u64::from(args.idle) + u64::from(args.stalled) + writers;
        let allowed = files_max.saturating_sub(FILES_RESERVED);
        if wanted > allowed {
            return Err(PlanError::Files { wanted, allowed });
        }
        for (name, path) in [("--publish-path", &args.publish_path), ("--subscribe-path", &args.subscribe_path)] {
            if path.as_ref().is_some_and(|path| !path.starts_with('/') || !path.contains("{id}")) {
                return Err(PlanError::Path(name));
            }
        }
        Ok(Self {
            profile: args.profile,
            transport: args.transport,
            floor: args.floor_command.clone(),
            subscribers: args.subscribers as usize,
            streams: if args.floor { 1 } else { args.streams as usize },
            append_every: (args.rate > 0.0).then(|| Duration::from_secs_f64(f64::from(args.batch) / args.rate)),
            writers: args.writers as usize,
            in_flight: args.in_flight as usize,
            batch: args.batch as usize,
            record_bytes: args.size as usize,
            // The floor begins when it likes, so there is no moment to wait for.
            warm_up: Duration::from_secs(if args.floor { 0 } else { args.warm_up.into() }),
            measured: Duration::from_secs(args.seconds.into()),
            idle: args.idle as usize,
            stalled: args.stalled as usize,
            interval: Duration::from_millis(args.interval.into()),
            publish_path: args.publish_path.clone(),
            subscribe_path: args.subscribe_path.clone(),
        })
    }

    /// Appends to each stream, warm-up included; `None`: nobody knows before.
    pub(crate) fn appends_a_stream(&self) -> Option<u64> {
        let every = self.append_every?;
        Some(((self.warm_up + self.measured).as_secs_f64() / every.as_secs_f64()).round().max(1.0) as u64)
    }

    /// How many connections will be open at once.
    pub(crate) fn connections(&self) -> usize {
        self.subscribers + self.idle + self.stalled + self.writers * self.streams
    }
}

/// A choice as it is typed.
pub(crate) fn typed(choice: impl clap::ValueEnum) -> String {
    choice.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn planned(line: &str) -> Result<Plan, String> {
        let words = ["fourfold", "bench"].into_iter().chain(line.split_whitespace());
        let Command::Bench(args) = Cli::try_parse_from(words).map_err(|error| error.to_string())?.command else {
            panic!("bench was typed");
        };
        Plan::understand(&args, 1_000).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_a_whole_plan() {
        let plan = planned("").unwrap();
        assert_eq!((plan.subscribers, plan.appends_a_stream()), (100, Some(550)));
        assert_eq!(planned("--rate 0").unwrap().appends_a_stream(), None);
        assert_eq!(planned("--rate 100 --batch 8 --warm-up 0 --seconds 4").unwrap().appends_a_stream(), Some(50));
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_what_can() {
        for (line, words) in [
            ("http://h --profile durable-streams", "choose sse, long-poll or short-poll"),
            ("--profile nchan", "needs the URL"),
            ("--rate=-1", "no rate"),
            ("--rate inf", "no rate"),
            ("--batch 10000 --size 8388608", "16 MiB"),
            ("--subscribers 1000", "1001 connections are more than the 936"),
            ("http://h --profile nchan --publish-path /pub", "{id}"),
            ("--server-pid 1", "<URL>"),
            ("--floor", "--floor-command"),
            ("--floor --floor-command x --transport sse", "choose websocket"),
            ("http://h --engine memory", "cannot be used with"),
        ] {
            let error = planned(line).expect_err(line);
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
