//! `fourfold append`: lines go in, each is in the stream once.
//!
//! A thread reads the input, since reading a terminal, a pipe or a followed file blocks; the [`Producer`] sends.

mod follow;
mod input;

use std::{io::Write, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::{mpsc, oneshot};

use crate::{
    cli::AppendArgs,
    client::{AddressError, Client, EnsureError, Server},
    message::Format,
    producer::{Appended, Producer, ProducerError},
    retry::{Retry, tell},
};
use input::{Input, InputError};

/// Lines read ahead of the producer: two messages full.
const LINES_AHEAD_MAX: usize = 2_000;

/// How long the server may be away by default: a restart with recovery, not a night.
const RETRY_FOR: Duration = Duration::from_secs(60);

/// How long Ctrl-C waits for what is under way.
const INTERRUPT_MAX: Duration = Duration::from_secs(5);

/// Why not all was appended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    /// The address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// There is no stream to append to.
    #[error(transparent)]
    Ensure(#[from] EnsureError),
    /// The stream's records are not lines.
    #[error("a stream of {0} has no lines; use --whole to append the input as one record")]
    NoLines(String),
    /// The input is wrong; what stands before it is in the stream.
    #[error("{error}; appended {} before it", counted(appended.records))]
    Input {
        /// What is wrong.
        error: InputError,
        /// What is in the stream.
        appended: Appended,
    },
    /// The server does not take it.
    #[error("{error}; appended {} before it", counted(appended.records))]
    Producer {
        /// What is wrong.
        error: ProducerError,
        /// What is in the stream.
        appended: Appended,
    },
    /// Ctrl-C before the end of the input.
    #[error("interrupted; appended {}", counted(appended.records))]
    Interrupted {
        /// What is in the stream.
        appended: Appended,
    },
}

/// Runs the command.
pub(crate) async fn append(args: AppendArgs) -> Result<(), AppendError> {
    let client = Client::new(Server::new(&args.at.server)?, &args.at.stream)?;
    let retry_for = args.retry_for.or(if args.follow { None } else { Some(RETRY_FOR) });
    let mut retry = Retry::new(client.server(), retry_for);
    let input = Input::open(args.file.as_deref(), args.follow)
        .map_err(|error| AppendError::Input { error, appended: Appended::default() })?;
    let stream = client.ensure(args.asked_content_type(), &[], &mut retry).await?;
    let format = stream.format();
    if format == Format::Binary && !args.whole {
        return Err(AppendError::NoLines(stream.content_type));
    }

    let bar = progress_bar(input.size());
    let (sender, mut records) = mpsc::channel(LINES_AHEAD_MAX);
    let (told, read) = oneshot::channel();
    // Not a task: the runtime would wait for a read that never ends.
    std::thread::spawn(move || {
        // Nobody listens any more after Ctrl-C.
        let _ = told.send(input.read(format, args.whole, &sender));
    });

    let mut producer = Producer::new(client.clone(), format, retry);
    let interrupted = tokio::select! {
        done = producer.run(&mut records, |appended| bar.set_position(appended.bytes)) => {
            done.map_err(|error| AppendError::Producer { error, appended: producer.appended().clone() })?;
            false
        }
        _ = tokio::signal::ctrl_c() => true,
    };
    if interrupted {
        let (_, mut nothing_more) = mpsc::channel(1);
        // What is not acknowledged by then is not counted.
        let _ = tokio::time::timeout(INTERRUPT_MAX, producer.run(&mut nothing_more, |_| {})).await;
    }
    bar.finish_and_clear();
    let appended = producer.appended().clone();
    if interrupted && !args.follow {
        return Err(AppendError::Interrupted { appended });
    }
    if !interrupted && let Ok(Err(error)) = read.await {
        return Err(AppendError::Input { error, appended });
    }
    if args.close {
        client.close(&mut Retry::new(client.server(), retry_for)).await?;
    }
    let offset = appended.next_offset.as_deref().unwrap_or(&stream.next_offset);
    let closed = if args.close { " and closed it" } else { "" };
    report(&format!("appended {} to {}{closed}; the next offset is {offset}", counted(appended.records), client.name));
    Ok(())
}

fn report(line: &str) {
    if writeln!(std::io::stdout(), "{line}").is_err() {
        tell(line); // Nobody reads standard output; the records are in the stream all the same.
    }
}

fn counted(records: u64) -> String {
    if records == 1 { "1 record".into() } else { format!("{records} records") }
}

/// Drawn on standard error if that is a terminal and the size is known.
fn progress_bar(size: Option<u64>) -> ProgressBar {
    let Some(size) = size else { return ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left")
        .expect("the template is a constant");
    ProgressBar::new(size).with_style(style)
}
