//! One writer: a connection that appends to one stream, with its answers.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
};

use super::{
    framing::{Framing, Step},
    head,
    profile::Wire,
    record::{self, Mark},
};

/// A writer.
#[derive(Debug)]
pub(crate) struct Writer {
    socket: TcpStream,
    pub(crate) stream: usize,
    number: u32,
    /// Of its next record.
    sequence: u64,
    /// Sent and unanswered: when it was due and how many records it has.
    flights: VecDeque<(u64, u64)>,
    /// What the socket has not taken yet.
    unsent: Vec<u8>,
    held: Vec<u8>,
    stage: Stage,
    pub(crate) is_dead: bool,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Head,
    Body(Framing, u16),
}

/// The answer to an append.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) due_us: u64,
    pub(crate) records: u64,
    pub(crate) status: u16,
}

impl Writer {
    /// On a connection that was just made. `number` is which writer of the stream.
    pub(crate) fn new(socket: TcpStream, stream: usize, number: u32) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            stream,
            number,
            sequence: 0,
            flights: VecDeque::new(),
            unsent: Vec::new(),
            held: Vec::new(),
            stage: Stage::Head,
            is_dead: false,
        })
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Requests without an answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Records without an answer.
    pub(crate) fn unanswered(&self) -> u64 {
        self.flights.iter().map(|(_, records)| records).sum()
    }

    /// Appends `batch` records that were due at `due_us`.
    pub(crate) fn append(
        &mut self,
        due_us: u64,
        batch: usize,
        record_bytes: usize,
        wire: &Wire,
        scratch: &mut Vec<u8>,
    ) -> io::Result<()> {
        let requests = wire.requests_a_batch(batch);
        let records = batch / requests;
        for _ in 0..requests {
            scratch.clear();
            for n in 0..records {
                if n > 0 {
                    scratch.push(b',');
                }
                let mark = Mark { sequence: self.sequence, intended_us: due_us, writer: self.number };
                record::write(&mark, record_bytes, scratch);
                self.sequence += 1;
            }
            wire.append(self.stream, records, scratch, &mut self.unsent);
            self.flights.push_back((due_us, records as u64));
        }
        self.flush()
    }

    /// Hands on what the socket takes.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match self.socket.write(&self.unsent[sent..]) {
                Ok(bytes) => sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.unsent.drain(..sent);
        Ok(())
    }

    /// Reads the answers that have come.
    pub(crate) fn read(&mut self, buffer: &mut [u8], mut answered: impl FnMut(Answer)) -> io::Result<()> {
        loop {
            let held = self.held.len();
            let room = buffer.get_mut(held..).filter(|room| !room.is_empty());
            let read = match self.socket.read(room.ok_or(ErrorKind::InvalidData)?) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            buffer[..held].copy_from_slice(&self.held);
            let filled = held + read;
            let taken = self.take(&buffer[..filled], &mut answered)?;
            self.held.clear();
            self.held.extend_from_slice(&buffer[taken..filled]);
        }
    }

    fn take(&mut self, bytes: &[u8], answered: &mut impl FnMut(Answer)) -> io::Result<usize> {
        let broken = |why: &str| io::Error::new(ErrorKind::InvalidData, why.to_owned());
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            match self.stage {
                Stage::Head => {
                    let Some(head) = head::parse(rest).map_err(broken)? else { return Ok(at) };
                    at += head.bytes;
                    // An interim answer is followed by the real one.
                    if head.status >= 200 {
                        self.stage = Stage::Body(Framing::of(head.body), head.status);
                    }
                }
                Stage::Body(mut framing, status) => {
                    let step = framing.step(rest);
                    self.stage = Stage::Body(framing, status);
                    match step {
                        Step::Payload(taken, _) | Step::Framing(taken) | Step::Ping(_, taken) => at += taken,
                        Step::Need => return Ok(at),
                        Step::Whole(taken) => {
                            at += taken;
                            self.stage = Stage::Head;
                            let (due_us, records) =
                                self.flights.pop_front().ok_or_else(|| broken("an answer to nothing"))?;
                            answered(Answer { due_us, records, status });
                        }
                        Step::Close => return Err(broken("a close in an answer")),
                        Step::Broken(why) => return Err(broken(why)),
                    }
                }
            }
        }
    }
}
