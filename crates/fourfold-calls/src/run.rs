//! One call from its beginning to its end: what comes from its target goes into its stream.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use fourfold_stream::{Engine, Stream};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at},
};

use crate::{
    config::CallConfig,
    ending::{Ending, Outcome},
    pen::{Broken, Pen},
    portions::{Malformed, Splitter},
    room::Room,
    source::{Facts, Failure, FailureKind, Head, Order, Piece, Source},
};

/// A call that runs, as others see it.
pub(crate) struct Running {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) stream: Arc<Stream>,
    stop: watch::Sender<Option<Stop>>,
    seen: Mutex<Instant>,
}

/// Why a call is to end before its target has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Somebody asked.
    Asked,
    /// Nobody has watched for so long as the configuration says.
    Unwatched,
    /// The server stops; the target has until then to end in its own way.
    Draining(Instant),
}

impl Running {
    pub(crate) fn new(id: String, name: String, stream: Arc<Stream>) -> Arc<Self> {
        Arc::new(Self { id, name, stream, stop: watch::Sender::new(None), seen: Mutex::new(Instant::now()) })
    }

    /// Ends it soon; the first reason counts.
    pub(crate) fn stop(&self, why: Stop) {
        self.stop.send_if_modified(|stop| stop.replace(stop.unwrap_or(why)).is_none());
    }

    /// Somebody reads it.
    pub(crate) fn seen(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether nobody has read it for so long.
    fn is_unwatched(&self, patience: Duration) -> bool {
        if self.stream.cursors() > 0 {
            self.seen();
        }
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).elapsed() >= patience
    }
}

/// How it came that no more is read.
enum End {
    /// The target has said all that it had to say.
    Whole,
    Failed(Failure),
    Stopped(Stop),
    /// The stream takes no more.
    Broken(Broken),
}

/// Runs it; completes when its stream is closed, or gone.
pub(crate) async fn run(running: Arc<Running>, order: Order, engine: Arc<dyn Engine>, room: Arc<dyn Room>) {
    let started = Instant::now();
    let config = Arc::clone(&order.config);
    let mut telling = running.stop.subscribe();
    let mut telling = Box::pin(async move {
        loop {
            if let Some(why) = *telling.borrow_and_update() {
                return why;
            }
            if telling.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    });
    let mut call = Call {
        pen: Pen::new(Arc::clone(&engine), Arc::clone(&running.stream)).within(room),
        config: Arc::clone(&config),
        splitter: None,
        head: None,
        bytes: 0,
    };
    let mut source = Source::start(order);
    let mut tick = interval(tick(&config));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut deadline = Box::pin(sleep_until(started + config.total_timeout));
    let look_after = || {
        engine.renew(&running.stream); // A call that is silent for long is in use.
        if config.cancel_unwatched.is_some_and(|patience| running.is_unwatched(patience)) {
            running.stop(Stop::Unwatched);
        }
    };
    let end = loop {
        // All that is there at once is one append: a head and the first bytes behind it too.
        let at_hand = if call.pen.is_full() { None } else { at_hand(source.next()).await };
        let piece = match at_hand {
            Some(piece) => piece,
            None => {
                call.pen.begin();
                if let Some(broken) = call.pen.broken() {
                    break End::Broken(broken.clone());
                }
                tokio::select! {
                    biased;
                    why = &mut telling => break End::Stopped(why),
                    written = call.pen.done(), if call.pen.is_writing() => match written {
                        Ok(()) => continue,
                        Err(broken) => break End::Broken(broken),
                    },
                    () = &mut deadline => break End::Failed(too_long(&config)),
                    _ = tick.tick() => {
                        look_after();
                        continue;
                    }
                    piece = source.next(), if !call.pen.is_full() => piece,
                }
            }
        };
        match piece {
            Ok(Some(piece)) => {
                if let Err(failure) = call.take(piece) {
                    break End::Failed(failure);
                }
            }
            Ok(None) => break End::Whole,
            Err(failure) => break End::Failed(failure),
        }
    };
    let end = match end {
        End::Whole => match call.finish() {
            Err(failure) => End::Failed(failure),
            // Its output has ended; it may live on, and is looked after as before.
            Ok(()) if at_hand(source.ended()).await.is_some() => End::Whole,
            Ok(()) => loop {
                tokio::select! {
                    biased;
                    why = &mut telling => break End::Stopped(why),
                    _ = tick.tick() => look_after(),
                    () = call.pen.meanwhile(source.ended()) => break End::Whole,
                }
            },
        },
        end => {
            call.cut();
            end
        }
    };
    let facts = call.pen.meanwhile(async {
        match &end {
            End::Whole => source.end().await,
            End::Stopped(Stop::Draining(by)) => timeout_at(*by, source.stop()).await.unwrap_or_default(),
            _ => source.stop().await,
        }
    });
    let facts = facts.await;
    let (bytes, head) = (call.bytes, call.head.take());
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let ending = ending(&end, head, facts);
    call.pen
        .conclude(|records, broken| {
            let mut ending = ending.clone();
            if let Some(broken) = broken {
                (ending.outcome, ending.code) = (Outcome::Failed, Some(storage_code(broken)));
                ending.error = Some(broken.to_string());
            }
            let (duration_ms, bytes, records) = (Some(duration_ms), Some(bytes), Some(records));
            Ending { duration_ms, bytes, records, ..ending }.text()
        })
        .await;
}

/// What comes of it without waiting. A target that never rests is stopped by the runtime's budget for one turn.
async fn at_hand<T>(coming: impl Future<Output = T>) -> Option<T> {
    let mut coming = pin!(coming);
    poll_fn(|cx| {
        Poll::Ready(match coming.as_mut().poll(cx) {
            Poll::Ready(come) => Some(come),
            Poll::Pending => None,
        })
    })
    .await
}

/// What a call has while its target speaks.
struct Call {
    pen: Pen,
    config: Arc<CallConfig>,
    splitter: Option<Splitter>,
    head: Option<Head>,
    bytes: u64,
}

impl Call {
    fn take(&mut self, piece: Piece) -> Result<(), Failure> {
        match piece {
            Piece::Head(head) => {
                let (content_type, splitter) = Splitter::of(&head.content_type, &self.config);
                self.pen.decide(content_type);
                self.splitter = Some(splitter);
                self.head = Some(head);
                Ok(())
            }
            Piece::Bytes(bytes) => {
                self.bytes += bytes.len() as u64;
                self.split(|splitter, records| splitter.push(bytes, records))?;
                if self.bytes > self.config.bytes_max {
                    let text = format!("the answer is longer than {} bytes", self.config.bytes_max);
                    return Err(failed("too-large", text));
                }
                Ok(())
            }
        }
    }

    fn finish(&mut self) -> Result<(), Failure> {
        self.split(Splitter::finish)
    }

    /// No more comes: what there is of a line is told.
    fn cut(&mut self) {
        if let Some(mut splitter) = self.splitter.take() {
            let mut records = Vec::new();
            splitter.cut(&mut records);
            self.pen.take(&mut records);
        }
    }

    /// What could be made of the bytes goes into the stream, also if the rest could not be understood.
    fn split(
        &mut self,
        split: impl FnOnce(&mut Splitter, &mut Vec<Bytes>) -> Result<(), Malformed>,
    ) -> Result<(), Failure> {
        let Some(splitter) = &mut self.splitter else { return Ok(()) };
        let mut records = Vec::new();
        let done = split(splitter, &mut records);
        self.pen.take(&mut records);
        if done.is_err() {
            self.splitter = None;
        }
        done.map_err(|malformed| failed(malformed.code, malformed.text))
    }
}

fn ending(end: &End, head: Option<Head>, mut facts: Facts) -> Ending {
    let failure = facts.failure.take();
    let mut ending = match end {
        End::Whole => match &failure {
            Some(failure) => of_failure(failure),
            None => Ending::new(Outcome::Finished, None),
        },
        End::Failed(failure) => of_failure(failure),
        End::Stopped(Stop::Asked) => Ending::new(Outcome::Cancelled, Some("asked")),
        End::Stopped(Stop::Unwatched) => Ending::new(Outcome::Cancelled, Some("unwatched")),
        End::Stopped(Stop::Draining(_)) => {
            let error = Some("the server was stopped while the call ran".to_owned());
            Ending { error, ..Ending::new(Outcome::Interrupted, Some("draining")) }
        }
        End::Broken(broken) => {
            Ending { error: Some(broken.to_string()), ..Ending::new(Outcome::Failed, Some(storage_code(broken))) }
        }
    };
    if let Some(head) = head {
        ending.status = ending.status.or(head.status);
        ending.headers.extend(head.headers);
    }
    Ending { exit_code: facts.exit_code, signal: facts.signal, stderr: facts.stderr, ..ending }
}

fn of_failure(failure: &Failure) -> Ending {
    let outcome = match failure.kind {
        FailureKind::Timeout => Outcome::TimedOut,
        FailureKind::Failed => Outcome::Failed,
    };
    let headers = failure.headers.iter().cloned().collect::<BTreeMap<_, _>>();
    let (status, error) = (failure.status, Some(failure.text.clone()));
    Ending { status, headers, error, ..Ending::new(outcome, Some(failure.code)) }
}

fn storage_code(broken: &Broken) -> &'static str {
    match broken {
        Broken::Full | Broken::NoRoom => "storage-full",
        Broken::Gone | Broken::Failed(_) => "storage-failed",
    }
}

fn failed(code: &'static str, text: String) -> Failure {
    Failure { kind: FailureKind::Failed, code, text, status: None, headers: Vec::new() }
}

fn too_long(config: &CallConfig) -> Failure {
    let text = format!("the call took longer than {} s", config.total_timeout.as_secs_f32());
    Failure { kind: FailureKind::Timeout, code: "total-timeout", text, status: None, headers: Vec::new() }
}

/// How often a running call is looked after: often enough that neither its time to live nor its watchers' is missed by much.
fn tick(config: &CallConfig) -> Duration {
    let least = config.cancel_unwatched.unwrap_or(TICK_MAX).min(config.keep);
    (least / 4).clamp(TICK_MIN, TICK_MAX)
}

const TICK_MIN: Duration = Duration::from_millis(50);
const TICK_MAX: Duration = Duration::from_secs(60);
