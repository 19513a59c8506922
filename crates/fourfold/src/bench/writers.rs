//! All writers, on one thread: each appends when its schedule says, or, without a rate, when it was answered.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime},
};

use super::{
    plan::Plan, probe::now_us, profile::Wire, schedule::Schedule, socket::Connector, tally::histogram, writer::Writer,
};

/// What has become of the appends.
#[derive(Debug)]
pub(crate) struct Written {
    /// Records that were acknowledged, of each stream.
    pub(crate) acknowledged: Vec<u64>,
    /// Those of the measured time.
    pub(crate) measured: u64,
    /// Records that the server refused.
    pub(crate) refused: u64,
    /// Records whose answer did not come.
    pub(crate) unanswered: u64,
    /// Records that were due, but whose turn did not come.
    pub(crate) unsent: u64,
    /// From the time that an append was due to its answer, in µs.
    pub(crate) latency: Histogram<u64>,
    /// When the last answer came, but not before the last append was due.
    pub(crate) end_us: u64,
    /// What went wrong first.
    pub(crate) first_error: Option<String>,
}

/// When a run appends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// The first append.
    pub(crate) start_us: u64,
    /// The first that is measured.
    pub(crate) measured_from_us: u64,
    /// Behind the last that is due.
    pub(crate) end_us: u64,
}

/// What others see of the writers, and how they are stopped.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    pub(crate) records: AtomicU64,
    pub(crate) stop: AtomicBool,
}

/// The writers of a run.
#[derive(Debug)]
pub(crate) struct Writers {
    wire: Wire,
    epoll: OwnedFd,
    timer: OwnedFd,
    writers: Vec<Writer>,
    schedules: Vec<Option<Schedule>>,
    /// Who waits for a time, soonest first. Who waits for an answer does not stand here.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    requests_max: usize,
    batch: usize,
    record_bytes: usize,
    times: Times,
    written: Written,
    scratch: Vec<u8>,
}

/// How long answers are waited for behind the last append, and appends that the server held up are still sent.
const GRACE_US: u64 = 10_000_000;

/// How long the loop sleeps at most, so that it sees that it is to stop.
const SLEEP: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// The timer, among the events.
const TIMER: u64 = u64::MAX;

const EVENTS_MAX: usize = 256;
const BUFFER_BYTES: usize = 64 * 1024;

impl Writers {
    /// Connects all of them.
    pub(crate) fn new(plan: &Plan, wire: Wire, mut connector: Connector, times: Times) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN | EventFlags::ET)?;
        let (mut writers, mut schedules, mut due) = (Vec::new(), Vec::new(), BinaryHeap::new());
        for stream in 0..plan.streams {
            for number in 0..plan.writers {
                let schedule = plan.append_every.zip(plan.appends_a_stream()).map(|(every, appends)| {
                    // The streams take turns, as if nobody had agreed on a time.
                    let shift = every.mul_f64(stream as f64 / plan.streams as f64);
                    let start_us = times.start_us + shift.as_micros() as u64;
                    Schedule::new(start_us, every, appends, number, plan.writers)
                });
                let index = writers.len();
                let writer = Writer::new(connector.connect()?, stream, u32::try_from(number).unwrap_or(u32::MAX))?;
                let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
                epoll::add(&epoll, writer.socket(), EventData::new_u64(index as u64), flags)?;
                due.push(Reverse((schedule.and_then(|schedule| schedule.due_us()).unwrap_or(times.start_us), index)));
                writers.push(writer);
                schedules.push(schedule);
            }
        }
        Ok(Self {
            requests_max: plan.in_flight * wire.requests_a_batch(plan.batch),
            wire,
            epoll,
            timer,
            writers,
            schedules,
            due,
            batch: plan.batch,
            record_bytes: plan.record_bytes,
            times,
            written: Written {
                acknowledged: vec![0; plan.streams],
                measured: 0,
                refused: 0,
                unanswered: 0,
                unsent: 0,
                latency: histogram(),
                end_us: 0,
                first_error: None,
            },
            scratch: Vec::new(),
        })
    }

    /// Appends until all is done, or nothing moves any more.
    pub(crate) fn run(mut self, shown: &Arc<Acknowledged>) -> io::Result<Written> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut buffer = vec![0; BUFFER_BYTES];
        while !shown.stop.load(Relaxed) {
            let now = now_us();
            // Readers are measured to the end, also if the last append is due long before it.
            if now >= self.times.end_us && self.is_done() || now >= self.times.end_us + GRACE_US {
                break;
            }
            self.send_due();
            self.set_timer()?;
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&SLEEP)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let data = event.data.u64();
                if data != TIMER {
                    self.turn(usize::try_from(data).unwrap_or(usize::MAX), &mut buffer);
                }
            }
            shown.records.store(self.written.acknowledged.iter().sum(), Relaxed);
        }
        self.written.end_us = self.written.end_us.max(self.times.end_us);
        for (writer, schedule) in self.writers.iter().zip(&self.schedules) {
            self.written.unanswered += writer.unanswered();
            self.written.unsent += schedule.map_or(0, |schedule| schedule.left() * self.batch as u64);
        }
        shown.records.store(self.written.acknowledged.iter().sum(), Relaxed);
        Ok(self.written)
    }

    fn is_done(&self) -> bool {
        self.due.is_empty() && self.writers.iter().all(|writer| writer.in_flight() == 0 || writer.is_dead)
    }

    /// Something has happened on a connection: answers, or room.
    fn turn(&mut self, index: usize, buffer: &mut [u8]) {
        let Self { writers, written, times, .. } = self;
        let Some(writer) = writers.get_mut(index).filter(|writer| !writer.is_dead) else { return };
        let was_full = writer.in_flight() >= self.requests_max;
        let stream = writer.stream;
        let now = now_us();
        let read = writer.flush().and_then(|()| {
            writer.read(buffer, |answer| {
                written.end_us = now;
                if !matches!(answer.status, 200..=299) {
                    written.refused += answer.records;
                    let status = answer.status;
                    written.first_error.get_or_insert_with(|| format!("an append was answered with status {status}"));
                    return;
                }
                written.acknowledged[stream] += answer.records;
                if answer.due_us >= times.measured_from_us {
                    written.measured += answer.records;
                    written.latency.saturating_record(now.saturating_sub(answer.due_us));
                }
            })
        });
        if let Err(error) = read {
            return self.bury(index, &error);
        }
        if was_full && self.writers[index].in_flight() < self.requests_max {
            self.queue(index);
        }
    }

    fn bury(&mut self, index: usize, error: &io::Error) {
        self.writers[index].is_dead = true;
        self.written.first_error.get_or_insert_with(|| format!("a writer's connection ended: {error}"));
    }

    /// Puts a writer that may send where its time is waited for.
    fn queue(&mut self, index: usize) {
        let due = match self.schedules[index] {
            Some(schedule) => schedule.due_us(),
            None => Some(now_us()).filter(|now| *now < self.times.end_us),
        };
        if let Some(due) = due {
            self.due.push(Reverse((due, index)));
        }
    }

    fn send_due(&mut self) {
        while let Some(&Reverse((due_us, index))) = self.due.peek() {
            let now = now_us();
            if due_us > now {
                return;
            }
            self.due.pop();
            let writer = &mut self.writers[index];
            // Without a schedule nothing was intended before now.
            let intended = if self.schedules[index].is_some() { due_us } else { now };
            if let Err(error) = writer.append(intended, self.batch, self.record_bytes, &self.wire, &mut self.scratch) {
                self.bury(index, &error);
                continue;
            }
            let has_room = writer.in_flight() < self.requests_max;
            if let Some(schedule) = &mut self.schedules[index] {
                schedule.advance();
            }
            if has_room {
                self.queue(index);
            }
        }
    }

    /// The readiness loop waits in milliseconds, which is too coarse for what is measured here.
    fn set_timer(&self) -> io::Result<()> {
        let Some(&Reverse((due_us, _))) = self.due.peek() else { return Ok(()) };
        let due = Duration::from_micros(due_us.max(1));
        let it_value =
            Timespec { tv_sec: i64::try_from(due.as_secs()).unwrap_or(i64::MAX), tv_nsec: due.subsec_nanos().into() };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)?;
        Ok(())
    }
}
