//! All readers, on one thread: an edge-triggered readiness loop with one buffer, which reads at once whatever has come.
//!
//! A task for each connection would cost more than the server that is measured; and a reader that lets bytes lie lets a server
//! that leaves Nagle's algorithm on send two records in one segment, and flatters it.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::{self, Read},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, TryRecvError},
    },
    time::Duration,
};

use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
};
use socket2::SockRef;

use super::{
    args::Transport,
    probe::{now_us, thread_cpu_us},
    reader::{Manner, Reader, Role, Wish},
    socket::Connector,
    tally::{Progress, Tally},
};

/// What the reading thread is told to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Open one connection of this role, as a reader of this stream.
    Open(Role, usize),
    /// Close the connections of [`Role::First`].
    CloseFirst,
}

/// The readers of a run.
#[derive(Debug)]
pub(crate) struct Readers {
    manner: Manner,
    connector: Connector,
    epoll: OwnedFd,
    readers: Vec<Option<Reader>>,
    /// Who asks again, and when; soonest first.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    interval_us: u64,
    tally: Tally,
    progress: Arc<Progress>,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
}

/// What one read can take: a burst of large records in few reads.
const BUFFER_BYTES: usize = 256 * 1024;

/// What the kernel takes for a reader that never reads. Its own bound of megabytes would make such a reader one like others until it is full,
/// which at a slow rate takes minutes.
const STALLED_BUFFER_BYTES: usize = 64 * 1024;

/// Readinesses taken at once. More would only make the first wait for the last.
const EVENTS_MAX: usize = 256;

/// How long the loop sleeps when nothing happens; then it looks for orders.
const SLEEP: Duration = Duration::from_millis(10);

/// How long before an order is looked for in a loop that is busy.
const ORDERS_A_TURN: usize = 64;

impl Readers {
    /// None yet.
    pub(crate) fn new(
        manner: Manner,
        connector: Connector,
        interval: Duration,
        tally: Tally,
        progress: Arc<Progress>,
    ) -> io::Result<Self> {
        Ok(Self {
            manner,
            connector,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            readers: Vec::new(),
            due: BinaryHeap::new(),
            interval_us: u64::try_from(interval.as_micros()).unwrap_or(u64::MAX),
            tally,
            progress,
            buffer: vec![0; BUFFER_BYTES],
            scratch: Vec::new(),
        })
    }

    /// Reads until nobody gives orders any more.
    pub(crate) fn run(mut self, orders: &Receiver<Order>) -> io::Result<Tally> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            for _ in 0..ORDERS_A_TURN {
                match orders.try_recv() {
                    Ok(Order::Open(role, stream)) => self.open(role, stream),
                    Ok(Order::CloseFirst) => self.close_first(),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(self.finish()),
                }
            }
            self.tally.measured_from_us = self.progress.measured_from_us.load(Relaxed);
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&self.sleep())) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let (flags, data) = (event.flags, event.data.u64());
                let has_ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
                self.read(usize::try_from(data).unwrap_or(usize::MAX), has_ended);
            }
            self.ask_due();
            self.tally.counts.cpu_us = thread_cpu_us();
            self.progress.publish(&self.tally.counts);
            if let Some(why) = &self.tally.first_error
                && self.progress.error().is_none()
            {
                self.progress.publish_error(why);
            }
        }
    }

    fn sleep(&self) -> Timespec {
        let until_due =
            self.due.peek().map(|Reverse((due_us, _))| Duration::from_micros(due_us.saturating_sub(now_us())));
        let sleep = until_due.map_or(SLEEP, |due| due.min(SLEEP));
        // The loop waits in whole milliseconds, rounded up: a poll comes a little late rather than too often.
        Timespec { tv_sec: 0, tv_nsec: i64::try_from(sleep.as_millis() * 1_000_000).unwrap_or(0) + 1_000_000 }
    }

    fn open(&mut self, role: Role, stream: usize) {
        let index = self.readers.len();
        let opened = self.connector.connect().and_then(|socket| {
            let mut reader = Reader::new(socket, role, stream);
            reader.ask(&self.manner, &mut self.scratch, &mut self.tally)?;
            if role == Role::Stalled {
                SockRef::from(&reader.socket).set_recv_buffer_size(STALLED_BUFFER_BYTES)?;
            } else {
                self.watch(&reader, index)?;
            }
            Ok(reader)
        });
        match opened {
            Ok(reader) => {
                self.tally.counts.opened += 1;
                self.readers.push(Some(reader));
            }
            Err(error) => {
                self.tally.counts.failed += 1;
                self.tally.blame(|| format!("a reader cannot connect: {error}"));
                self.readers.push(None);
            }
        }
    }

    fn watch(&self, reader: &Reader, index: usize) -> io::Result<()> {
        reader.socket.set_nonblocking(true)?;
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, &reader.socket, EventData::new_u64(index as u64), flags)?)
    }

    fn close_first(&mut self) {
        for slot in &mut self.readers {
            if slot.as_ref().is_some_and(|reader| reader.role == Role::First) {
                *slot = None;
            }
        }
    }

    /// Reads all that one connection has.
    fn read(&mut self, index: usize, has_ended: bool) {
        let Self { readers, buffer, scratch, tally, manner, .. } = self;
        let Some(reader) = readers.get_mut(index).and_then(Option::as_mut) else { return };
        loop {
            let held = reader.held.len();
            if held >= buffer.len() {
                return self.end(index, "a head or frame that fills the buffer");
            }
            buffer[..held].copy_from_slice(&reader.held);
            let read = match reader.socket.read(&mut buffer[held..]) {
                Ok(0) => return self.end(index, "the server closed the connection"),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return self.end(index, &error.to_string()),
            };
            tally.counts.reads += 1;
            tally.counts.received += read as u64;
            let filled = held + read;
            let wish = match reader.take(&buffer[..filled], now_us(), manner, tally) {
                Ok((taken, wish)) => {
                    reader.held.clear();
                    reader.held.extend_from_slice(&buffer[taken..filled]);
                    wish
                }
                Err(why) => return self.end(index, &why),
            };
            match wish {
                Wish::Read => {}
                Wish::AskLater => self.due.push(Reverse((now_us() + reader.pause_us(self.interval_us), index))),
                Wish::Ask => {
                    if let Err(error) = reader.ask(manner, scratch, tally) {
                        return self.end(index, &error.to_string());
                    }
                }
            }
            // A read that leaves room has emptied the socket, and what comes later is told anew; only an end that was told
            // already is not told again.
            if filled < buffer.len() && !has_ended {
                return;
            }
        }
    }

    fn ask_due(&mut self) {
        while let Some(&Reverse((due_us, index))) = self.due.peek()
            && due_us <= now_us()
        {
            self.due.pop();
            let Some(reader) = self.readers[index].as_mut() else { continue };
            if let Err(error) = reader.ask(&self.manner, &mut self.scratch, &mut self.tally) {
                self.end(index, &error.to_string());
            }
        }
    }

    /// A connection is of no more use. A reader that polls takes another one; that is how polling is.
    fn end(&mut self, index: usize, why: &str) {
        let Some(mut reader) = self.readers[index].take() else { return };
        let polls = !matches!(self.manner.transport, Transport::Websocket | Transport::Sse);
        if !polls || !reader.may_end() {
            self.tally.counts.ended += 1;
            self.tally.blame(|| format!("a reader's connection ended: {why}"));
        }
        reader.finish(&mut self.tally);
        if !polls {
            return;
        }
        // It may still stand in the queue of those who ask later, and then asks there.
        let waits = self.due.iter().any(|Reverse((_, waiting))| *waiting == index);
        let reconnected = self.connector.connect().and_then(|socket| {
            reader.reconnected(socket);
            if !waits {
                reader.ask(&self.manner, &mut self.scratch, &mut self.tally)?;
            }
            self.watch(&reader, index)
        });
        match reconnected {
            Ok(()) => {
                self.tally.counts.reconnected += 1;
                self.readers[index] = Some(reader);
            }
            Err(error) => {
                self.tally.counts.failed += 1;
                self.tally.blame(|| format!("a reader cannot connect again: {error}"));
            }
        }
    }

    fn finish(mut self) -> Tally {
        for reader in self.readers.iter_mut().flatten().filter(|reader| matches!(reader.role, Role::Subscriber(_))) {
            reader.finish(&mut self.tally);
        }
        self.tally
    }
}
