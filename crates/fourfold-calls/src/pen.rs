//! What writes a call's stream: one append under way, and what came meanwhile rides on the next.
//!
//! What is read and not yet durable is bounded: a pen that is full takes nothing until the append under way is done, and its target waits.

use std::{
    mem,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use fourfold_stream::{Append, AppendError, Appended, Engine, Pending, Stream, Unavailable};
use tokio::time::{Sleep, sleep};

use crate::{
    limits::{GATHERED_BYTES_MAX, GATHERED_RECORDS_MAX},
    room::Room,
};

/// Writes one stream.
pub(crate) struct Pen {
    engine: Arc<dyn Engine>,
    stream: Arc<Stream>,
    room: Arc<dyn Room>,
    /// What is to be decided with the next append.
    content_type: Option<String>,
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
    under_way: Option<UnderWay>,
    /// Those that are durable.
    records: u64,
    /// Why an append failed: what comes behind it is not written.
    broken: Option<Broken>,
}

/// An append that is not done.
struct UnderWay {
    append: Append,
    step: Step,
    wait: Duration,
}

enum Step {
    Appending(Pending<Result<Appended, AppendError>>),
    /// The engine had too much to do: again after this.
    Resting(Pin<Box<Sleep>>),
}

/// Why the pen writes no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// The stream was deleted, has expired or is closed: there is nothing to write into.
    #[error("the call's stream has gone")]
    Gone,
    #[error("the disk is full")]
    Full,
    #[error("the streams take all that storage-max gives them")]
    NoRoom,
    #[error("the engine failed: {0}")]
    Failed(String),
}

impl Pen {
    pub(crate) fn new(engine: Arc<dyn Engine>, stream: Arc<Stream>) -> Self {
        Self {
            engine,
            stream,
            room: Arc::new(()),
            content_type: None,
            gathered: Vec::new(),
            gathered_bytes: 0,
            under_way: None,
            records: 0,
            broken: None,
        }
    }

    /// Appends no record when there is no room; an end is kept all the same.
    pub(crate) fn within(self, room: Arc<dyn Room>) -> Self {
        Self { room, ..self }
    }

    /// The stream's content type from the next append on, which need not have records.
    pub(crate) fn decide(&mut self, content_type: String) {
        self.content_type = Some(content_type);
    }

    pub(crate) fn take(&mut self, records: &mut Vec<Bytes>) {
        self.gathered_bytes += records.iter().map(Bytes::len).sum::<usize>();
        self.gathered.append(records);
    }

    /// Whether it takes no more for now.
    pub(crate) fn is_full(&self) -> bool {
        self.gathered_bytes >= GATHERED_BYTES_MAX || self.gathered.len() >= GATHERED_RECORDS_MAX
    }

    pub(crate) fn is_writing(&self) -> bool {
        self.under_way.is_some()
    }

    /// Why it writes no more.
    pub(crate) fn broken(&self) -> Option<&Broken> {
        self.broken.as_ref()
    }

    fn look_for_room(&mut self) {
        if !self.gathered.is_empty() && self.room.is_full() {
            self.broken.get_or_insert(Broken::NoRoom);
        }
    }

    /// Writes what was gathered, unless an append is under way or has failed, or there is no room.
    pub(crate) fn begin(&mut self) {
        if self.under_way.is_none() {
            self.look_for_room();
        }
        if self.broken.is_some()
            || self.under_way.is_some()
            || (self.gathered.is_empty() && self.content_type.is_none())
        {
            return;
        }
        let append = self.next();
        self.send(append);
    }

    /// Closes the stream at once, with an ending that needs no counting.
    pub(crate) fn close(&mut self, ending: Arc<str>) {
        self.send(Append { close: true, ending: Some(ending), ..Append::default() });
    }

    fn next(&mut self) -> Append {
        self.gathered_bytes = 0;
        Append { records: mem::take(&mut self.gathered), content_type: self.content_type.take(), ..Append::default() }
    }

    fn send(&mut self, append: Append) {
        let step = Step::Appending(self.engine.append(&self.stream, append.clone()));
        self.under_way = Some(UnderWay { append, step, wait: REST_MIN });
    }

    /// Completes when nothing is under way. Cancel-safe.
    pub(crate) async fn done(&mut self) -> Result<(), Broken> {
        while let Some(UnderWay { append, step, wait }) = &mut self.under_way {
            *step = match step {
                Step::Resting(rest) => {
                    rest.as_mut().await;
                    Step::Appending(self.engine.append(&self.stream, append.clone()))
                }
                Step::Appending(appending) => match appending.await {
                    Ok(_) => {
                        self.records += append.records.len() as u64;
                        self.under_way = None;
                        return Ok(());
                    }
                    Err(AppendError::Unavailable(Unavailable::Overloaded)) => {
                        let rest = Step::Resting(Box::pin(sleep(*wait)));
                        *wait = (*wait * 2).min(REST_MAX);
                        rest
                    }
                    Err(error) => {
                        self.under_way = None;
                        let error = Broken::from(error);
                        self.broken.get_or_insert_with(|| error.clone());
                        return Err(error);
                    }
                },
            };
        }
        Ok(())
    }

    /// Goes on writing while something else is waited for. What goes wrong is told with the end.
    pub(crate) async fn meanwhile<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = pin!(other);
        loop {
            self.begin();
            tokio::select! {
                biased;
                output = &mut other => return output,
                _ = self.done(), if self.is_writing() => {}
            }
        }
    }

    /// Writes what is left, and closes the stream with its ending, which is made when the number of its records is known. Goes on until that is
    /// done, for as long as the stream is there: a call is never left open.
    pub(crate) async fn conclude(mut self, ending: impl Fn(u64, Option<&Broken>) -> Arc<str>) {
        let _ = self.done().await; // It remembers what went wrong, now or before.
        self.look_for_room();
        let mut broken = self.broken.take();
        let mut wait = REST_MIN;
        loop {
            if broken == Some(Broken::Gone) {
                return;
            }
            if broken.is_some() {
                self.gathered.clear(); // They may not fit, and behind a hole they would lie.
            }
            let next = self.next();
            let records = self.records + next.records.len() as u64;
            let ending = Some(ending(records, broken.as_ref()));
            let content_type = next.content_type.clone();
            self.send(Append { close: true, ending, ..next });
            match self.done().await {
                Ok(()) | Err(Broken::Gone) => return,
                Err(error) => {
                    tracing::error!(stream = %self.stream.name(), %error, "a call's end cannot be kept yet");
                    self.content_type = content_type;
                    broken.get_or_insert(error);
                    sleep(wait).await;
                    wait = (wait * 2).min(CLOSE_AGAIN_MAX);
                }
            }
        }
    }
}

impl From<AppendError> for Broken {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::NotFound | AppendError::Closed { .. } => Self::Gone,
            AppendError::Unavailable(Unavailable::Full) => Self::Full,
            error => Self::Failed(error.to_string()),
        }
    }
}

const REST_MIN: Duration = Duration::from_millis(20);
const REST_MAX: Duration = Duration::from_secs(1);
/// How often it is tried to keep an end while the disk is full.
const CLOSE_AGAIN_MAX: Duration = Duration::from_secs(5);
