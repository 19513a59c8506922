//! A run from its first connection to its report: the thread that leads the other two, and looks at the server meanwhile.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{self, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    args::{Profile, Transport},
    outcome::{Memory, Moment, Outcome},
    plan::Plan,
    probe::{Machine, now_us, own_cpu_us},
    profile::Wire,
    reader::{Manner, Role},
    readers::{Order, Readers},
    record::{self, Mark, Shape},
    report::Report,
    socket::Connector,
    tally::{Counts, Progress, Tally},
    target::Target,
    writers::{Acknowledged, Times, Writers, Written},
};

/// Why a run did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The machine denies something.
    #[error("the run cannot go on: {0}")]
    Machine(#[from] io::Error),
    /// There is nothing to read from.
    #[error("the stream cannot be made: {0}")]
    Create(String),
    /// Not all readers came to wait for records.
    #[error("only {ready} of {wanted} readers are connected after {}: {why}", seconds(READY_MAX))]
    NotReady {
        /// So many are.
        ready: u64,
        /// So many were asked for.
        wanted: u64,
        /// What went wrong first.
        why: String,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

/// How long readers may take until all wait for records.
const READY_MAX: Duration = Duration::from_secs(60);

/// How long nothing may come before what is missing is taken as lost.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// How long the server may take to come to rest before its memory is read.
const REST_MAX: Duration = Duration::from_secs(3);

/// Between two looks at a server that is to come to rest, and at most how much it may have done meanwhile.
const REST_LOOK: Duration = Duration::from_millis(50);
const REST_US: u64 = 500;

/// Connections that are opened and closed before memory is read: they pay for what all share.
const FIRST_CONNECTIONS: usize = 200;

/// Between two looks at what the threads have done, when something hangs on it; and while they just go on.
const LOOK: Duration = Duration::from_millis(5);
const GLANCE: Duration = Duration::from_millis(25);

/// Time for the writers to connect before the first append.
const LEAD: Duration = Duration::from_millis(50);

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}

/// A run.
#[derive(Debug)]
pub(crate) struct Run {
    plan: Plan,
    target: Target,
    /// Sets its streams apart from those of all others.
    name: String,
    interrupted: Arc<AtomicBool>,
    bar: ProgressBar,
}

/// The thread that reads.
struct Reading {
    orders: Sender<Order>,
    progress: Arc<Progress>,
    thread: JoinHandle<io::Result<Tally>>,
}

impl Run {
    /// Nothing is connected yet.
    pub(crate) fn new(plan: Plan, target: Target) -> Result<Self, RunError> {
        let style = ProgressStyle::with_template("{prefix} {bar:40} {msg}").expect("the template is a constant");
        let bar = ProgressBar::new(0).with_style(style);
        let name = format!("{:x}-{:x}", std::process::id(), now_us());
        Ok(Self { plan, target, name, interrupted: watch_signals()?, bar })
    }

    /// Does it.
    pub(crate) fn run(self) -> Result<Report, RunError> {
        let streams = self.plan.streams + usize::from(self.plan.idle > 0);
        if self.plan.floor.is_none() {
            self.create(streams)?;
        }
        let reading = self.start_reading()?;
        let outcome = self.measured(&reading);
        drop(reading.orders);
        let tally = reading.thread.join().map_err(|_| io::Error::other("the reading thread has panicked"))??;
        self.bar.finish_and_clear();
        let outcome = outcome?;
        if self.target.keeps() {
            self.delete(streams);
        }
        Ok(outcome.report(&self.plan, self.target.tree, &tally))
    }

    /// Everything between the first connection and the last record.
    fn measured(&self, reading: &Reading) -> Result<Outcome, RunError> {
        let mut memory = self.connect(reading)?;
        let (before, written) =
            if self.plan.floor.is_some() { (self.moment(&reading.progress), None) } else { self.append(reading)? };
        let expected = match &written {
            Some(written) => (0..self.plan.subscribers).map(|n| written.acknowledged[n % self.plan.streams]).sum(),
            None => self.plan.appends_a_stream().unwrap_or(0) * (self.plan.batch * self.plan.subscribers) as u64,
        };
        self.await_deliveries(&reading.progress, expected)?;
        let after = self.moment(&reading.progress);
        memory.end = self.pss();
        if self.plan.idle > 0 {
            self.answer_idle(reading)?;
        }
        Ok(Outcome { memory, before, after, written })
    }

    fn wire(&self) -> Wire {
        Wire::new(&self.plan, &self.target.host, &self.target.prefix, &self.name)
    }

    fn create(&self, streams: usize) -> Result<(), RunError> {
        let wire = self.wire();
        for stream in 0..self.plan.streams.max(streams) {
            let Some(request) = wire.create(stream) else { return Ok(()) };
            match self.target.request(&request) {
                Ok(200..=299) => {}
                Ok(status) => return Err(RunError::Create(format!("it was answered with status {status}"))),
                Err(error) => return Err(RunError::Create(error.to_string())),
            }
        }
        Ok(())
    }

    fn delete(&self, streams: usize) {
        let wire = self.wire();
        for stream in 0..streams {
            // A server that cannot delete keeps them; the figures are in hand.
            let _ = wire.delete(stream).map(|request| self.target.request(&request));
        }
    }

    fn start_reading(&self) -> Result<Reading, RunError> {
        let Plan { profile, transport, record_bytes, .. } = self.plan;
        let is_floor = self.plan.floor.is_some();
        let shape = if is_floor { Shape::bare() } else { Shape::new(record_bytes, profile == Profile::Socketio) };
        let manner = Manner { wire: self.wire(), profile, transport, is_floor, shape };
        let progress = Arc::new(Progress::default());
        // The floor begins by itself, so there is no moment to set.
        progress.measured_from_us.store(if is_floor { 0 } else { u64::MAX }, Relaxed);
        let tally = Tally::new(self.plan.subscribers, self.plan.writers);
        let connector = Connector::new(self.target.address, 0);
        let readers = Readers::new(manner, connector, self.plan.interval, tally, Arc::clone(&progress))?;
        let (orders, orders_of_readers) = mpsc::channel();
        let thread = thread::Builder::new().name("readers".into()).spawn(move || readers.run(&orders_of_readers))?;
        Ok(Reading { orders, progress, thread })
    }

    /// Opens all readers, and reads the server's memory in between.
    fn connect(&self, reading: &Reading) -> Result<Memory, RunError> {
        let Plan { idle, stalled, subscribers, streams, .. } = self.plan;
        let mut memory = Memory::default();
        let mut wanted = 0;
        let open = |role: Role, stream: usize| {
            // It only fails if the thread has ended, which is noticed when it does not answer.
            let _ = reading.orders.send(Order::Open(role, stream));
        };
        if self.target.tree.is_some() && self.plan.floor.is_none() {
            wanted += FIRST_CONNECTIONS as u64;
            (0..FIRST_CONNECTIONS).for_each(|_| open(Role::First, 0));
            self.await_ready(reading, wanted)?;
            self.rest()?;
            let _ = reading.orders.send(Order::CloseFirst);
            self.rest()?;
        }
        memory.start = self.pss();
        if idle > 0 {
            wanted += idle as u64;
            (0..idle).for_each(|_| open(Role::Idle, streams));
            self.await_ready(reading, wanted)?;
            self.rest()?;
        }
        memory.with_idle = self.pss();
        (0..stalled).for_each(|n| open(Role::Stalled, n % streams));
        (0..subscribers).for_each(|n| open(Role::Subscriber(n), n % streams));
        // Who never reads does not learn that the server is ready; those behind it in the queue do.
        let stalled_ready =
            if matches!(self.plan.transport, Transport::Websocket | Transport::Sse) { 0 } else { stalled };
        wanted += (subscribers + stalled_ready) as u64;
        self.await_ready(reading, wanted)?;
        if self.plan.floor.is_none() {
            self.rest()?;
        }
        memory.with_subscribers = self.pss();
        Ok(memory)
    }

    fn await_ready(&self, reading: &Reading, wanted: u64) -> Result<(), RunError> {
        self.bar.set_prefix("connecting");
        self.bar.set_length(self.plan.connections() as u64);
        let deadline = Instant::now() + READY_MAX;
        loop {
            let Counts { ready, failed, .. } = reading.progress.counts();
            self.bar.set_position(ready.saturating_sub(wanted.saturating_sub(self.plan.connections() as u64)));
            if ready >= wanted {
                return Ok(());
            }
            if ready + failed >= wanted || Instant::now() > deadline || reading.thread.is_finished() {
                let why = reading.progress.error().unwrap_or_else(|| "they have got no answer".into());
                return Err(RunError::NotReady { ready, wanted, why });
            }
            self.pause(LOOK)?;
        }
    }

    /// Appends from the beginning to the end; returns the moment at which the measured time began.
    fn append(&self, reading: &Reading) -> Result<(Moment, Option<Written>), RunError> {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let start_us = now_us() + micros(LEAD);
        let measured_from_us = start_us + micros(self.plan.warm_up);
        let times = Times { start_us, measured_from_us, end_us: measured_from_us + micros(self.plan.measured) };
        reading.progress.measured_from_us.store(measured_from_us, Relaxed);
        let connector = Connector::new(self.target.address, self.plan.connections());
        let writers = Writers::new(&self.plan, self.wire(), connector, times)?;
        let shown = Arc::new(Acknowledged::default());
        let of_writers = Arc::clone(&shown);
        let thread = thread::Builder::new().name("writers".into()).spawn(move || writers.run(&of_writers))?;

        self.bar.set_length(times.end_us - times.start_us);
        let mut before = None;
        while !thread.is_finished() {
            let now = now_us();
            if before.is_none() && now >= measured_from_us {
                before = Some(self.moment(&reading.progress));
            }
            let delivered = reading.progress.counts().delivered;
            self.bar.set_prefix(if now < measured_from_us { "warming up" } else { "measuring " });
            self.bar.set_position(now.saturating_sub(start_us));
            self.bar.set_message(format!("{} appended, {delivered} delivered", shown.records.load(Relaxed)));
            let until_measured = if before.is_none() { measured_from_us.saturating_sub(now) } else { u64::MAX };
            if let Err(interrupted) = self.pause(GLANCE.min(Duration::from_micros(until_measured))) {
                shown.stop.store(true, Relaxed);
                let _ = thread.join();
                return Err(interrupted);
            }
        }
        let written = thread.join().map_err(|_| io::Error::other("the writing thread has panicked"))??;
        Ok((before.unwrap_or_else(|| self.moment(&reading.progress)), Some(written)))
    }

    fn await_deliveries(&self, progress: &Progress, expected: u64) -> Result<(), RunError> {
        self.bar.set_prefix("draining  ");
        self.bar.set_length(expected);
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let delivered = progress.counts().delivered;
            self.bar.set_position(delivered);
            self.bar.set_message(format!("{delivered} of {expected} delivered"));
            if delivered >= expected || since.elapsed() > SILENCE_MAX + self.plan.interval {
                return Ok(());
            }
            if delivered > last {
                (last, since) = (delivered, Instant::now());
            }
            self.pause(LOOK)?;
        }
    }

    /// One record for those who have waited all the time: idle, but not dead.
    fn answer_idle(&self, reading: &Reading) -> Result<(), RunError> {
        let (mut body, mut request) = (Vec::new(), Vec::new());
        record::write(&Mark { sequence: 0, intended_us: now_us(), writer: 0 }, self.plan.record_bytes, &mut body);
        self.wire().append(self.plan.streams, 1, &body, &mut request);
        self.target.request(&request)?;
        let deadline = Instant::now() + SILENCE_MAX + self.plan.interval;
        while reading.progress.counts().idle < self.plan.idle as u64 && Instant::now() < deadline {
            self.pause(LOOK)?;
        }
        Ok(())
    }

    fn moment(&self, progress: &Progress) -> Moment {
        Moment {
            us: now_us(),
            counts: progress.counts(),
            server: self.target.tree.and_then(|tree| tree.cpu().ok()),
            own_us: own_cpu_us(),
            machine: Machine::now(),
        }
    }

    fn pss(&self) -> u64 {
        self.target.tree.and_then(|tree| tree.pss_bytes().ok()).unwrap_or(0)
    }

    /// Waits until the server does nothing; if nobody can tell, for a moment.
    fn rest(&self) -> Result<(), RunError> {
        let Some(tree) = self.target.tree else { return self.pause(REST_LOOK * 10) };
        let deadline = Instant::now() + REST_MAX;
        let mut before = tree.cpu()?;
        loop {
            self.pause(REST_LOOK)?;
            let now = tree.cpu()?;
            if now.since_us(&before) < REST_US || Instant::now() > deadline {
                return Ok(());
            }
            before = now;
        }
    }

    fn pause(&self, duration: Duration) -> Result<(), RunError> {
        thread::sleep(duration);
        if self.interrupted.load(Relaxed) { Err(RunError::Interrupted) } else { Ok(()) }
    }
}

/// Set by Ctrl-C and SIGTERM, so that a server that was started for the run ends with it.
fn watch_signals() -> io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let flag = Arc::clone(&interrupted);
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        flag.store(true, Relaxed);
    })?;
    Ok(interrupted)
}
