//! One reader: what it has asked, where it stands in the answer, and what it does when that is whole.
//!
//! It has no buffer: what a read cut in two waits in `held`, which is empty most of the time.

use std::{
    io::{self, Write},
    net::TcpStream,
};

use memchr::memmem;

use super::{
    args::{Profile, Transport},
    framing::{Framing, Step, client_frame},
    head::{self, Head},
    profile::{Place, Wire},
    record::{Marks, Shape},
    tally::Tally,
};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Opened and closed again, so that the server has what all connections share.
    First,
    /// Waits on a stream of its own.
    Idle,
    /// Never reads.
    Stalled,
    /// The subscriber of this number.
    Subscriber(usize),
}

/// What all readers of a run share.
#[derive(Debug)]
pub(crate) struct Manner {
    pub(crate) wire: Wire,
    pub(crate) profile: Profile,
    pub(crate) transport: Transport,
    /// Frames come at once, without an answer.
    pub(crate) is_floor: bool,
    pub(crate) shape: Shape,
}

/// What a reader wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// To be told when there is more to read.
    Read,
    /// To ask again at once.
    Ask,
    /// To ask again after the interval.
    AskLater,
}

/// A connection and what is known about it.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) socket: TcpStream,
    pub(crate) role: Role,
    stream: usize,
    stage: Stage,
    marks: Marks,
    pub(crate) held: Vec<u8>,
    place: Place,
    /// The end of a portioned answer so far, which says where to go on.
    end: Vec<u8>,
    is_ready: bool,
    has_paused: bool,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// No request is under way.
    Resting,
    Head,
    Body {
        framing: Framing,
        wish: Wish,
    },
}

/// The end of a portion that is kept, in bytes: its last members are shorter.
const END_BYTES: usize = 256;

impl Reader {
    /// On a connection that was just made; its socket does not block.
    pub(crate) fn new(socket: TcpStream, role: Role, stream: usize) -> Self {
        Self {
            socket,
            role,
            stream,
            stage: Stage::Resting,
            marks: Marks::default(),
            held: Vec::new(),
            place: Place::default(),
            end: Vec::new(),
            is_ready: false,
            has_paused: false,
        }
    }

    /// Sends the request for what comes next.
    pub(crate) fn ask(&mut self, manner: &Manner, scratch: &mut Vec<u8>, tally: &mut Tally) -> io::Result<()> {
        scratch.clear();
        manner.wire.subscribe(self.stream, &self.place, scratch);
        self.stage =
            if manner.is_floor { Stage::Body { framing: Framing::FRAMES, wish: Wish::Read } } else { Stage::Head };
        tally.counts.requests += 1;
        self.say(scratch, tally)?;
        let says_nothing = !matches!(manner.transport, Transport::Websocket | Transport::Sse) || manner.is_floor;
        if says_nothing {
            self.ready(tally);
        }
        Ok(())
    }

    /// Understands what was read; the bytes from the returned index on are to be given again with more behind them.
    /// Errors: why this connection is of no more use.
    pub(crate) fn take(
        &mut self,
        bytes: &[u8],
        now_us: u64,
        manner: &Manner,
        tally: &mut Tally,
    ) -> Result<(usize, Wish), String> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            let (mut framing, wish) = match self.stage {
                Stage::Body { framing, wish } => (framing, wish),
                Stage::Resting if rest.is_empty() => return Ok((at, Wish::Read)),
                Stage::Resting => return Err("bytes that nobody asked for".into()),
                Stage::Head => match head::parse(rest)? {
                    None => return Ok((at, Wish::Read)),
                    Some(head) => {
                        at += head.bytes;
                        self.understand(&head, manner, tally)?;
                        continue;
                    }
                },
            };
            let step = framing.step(rest);
            // Engine.IO speaks with the first byte of a message, so a message is not begun before that is there.
            if manner.profile == Profile::Socketio
                && let Step::Framing(head) = step
                && let Framing::Frames { left: 1.., .. } = framing
            {
                let left = rest.len() - head;
                let Framing::Frames { left: length, .. } = framing else { unreachable!("matched above") };
                if (left as u64) < length.min(2) {
                    return Ok((at, Wish::Read));
                }
                self.converse(&rest[head..], tally).map_err(|error| error.to_string())?;
            }
            self.stage = Stage::Body { framing, wish };
            match step {
                Step::Need => return Ok((at, Wish::Read)),
                Step::Framing(taken) => at += taken,
                Step::Payload(taken, is_end) => {
                    self.payload(&rest[..taken], now_us, manner, tally);
                    if is_end {
                        self.end_of_message(tally);
                    }
                    at += taken;
                }
                Step::Ping(payload, taken) => {
                    let pong = client_frame(10, payload);
                    self.say(&pong, tally).map_err(|error| error.to_string())?;
                    at += taken;
                }
                Step::Whole(taken) => {
                    self.end_of_message(tally);
                    at += taken;
                    self.stage = Stage::Resting;
                    if manner.transport == Transport::Portions {
                        self.go_on();
                    }
                    if matches!(manner.transport, Transport::Websocket | Transport::Sse) {
                        return Err("the server ended the answer".into());
                    }
                    return Ok((at, wish));
                }
                Step::Close => return Err("the server closed the WebSocket".into()),
                Step::Broken(why) => return Err(why.into()),
            }
        }
    }

    /// How long to wait before it asks again. The first wait is a part of the interval, another one for each reader: people do
    /// not begin to poll at the same moment.
    pub(crate) fn pause_us(&mut self, interval_us: u64) -> u64 {
        let Role::Subscriber(number) = self.role else { return interval_us };
        if std::mem::replace(&mut self.has_paused, true) {
            return interval_us;
        }
        // Multiples of the golden ratio fill an interval evenly, however many there are.
        (interval_us as f64 * (number as f64 * 0.618_033_988_749_895).fract()) as u64
    }

    /// Whether the connection may end here, and a polling reader just connects again.
    pub(crate) fn may_end(&self) -> bool {
        matches!(self.stage, Stage::Resting | Stage::Head) && self.held.is_empty()
    }

    /// Takes another connection in place of the one that has ended.
    pub(crate) fn reconnected(&mut self, socket: TcpStream) {
        self.socket = socket;
        self.stage = Stage::Resting;
        self.held = Vec::new();
        self.marks = Marks::default();
    }

    /// Counts what the end of the run finds half arrived.
    pub(crate) fn finish(&mut self, tally: &mut Tally) {
        let is_between = match self.stage {
            Stage::Body { framing, .. } => framing.is_between(),
            Stage::Resting | Stage::Head => true,
        };
        if !self.marks.end() || !is_between || !self.held.is_empty() {
            tally.counts.cut += 1;
        }
    }

    fn understand(&mut self, head: &Head<'_>, manner: &Manner, tally: &mut Tally) -> Result<(), String> {
        use Transport::{LongPoll, Portions, ShortPoll, Sse, Websocket};
        let polls = !matches!(manner.transport, Websocket | Sse);
        let wish = match (manner.transport, head.status) {
            (Websocket, 101) | (Sse, 200) => Wish::Read,
            (LongPoll, 200 | 204 | 304 | 408) | (Portions, 200 | 204) => Wish::Ask,
            // Who is not yet at the tail asks again at once; nchan gives one record at a time and does not say.
            (ShortPoll, 200) if !head.up_to_date => Wish::Ask,
            (ShortPoll, 200 | 304) => Wish::AskLater,
            (_, status) => {
                tally.counts.refused += 1;
                let why = format!("a read was answered with status {status}");
                tally.blame(|| why.clone());
                if !polls {
                    return Err(why);
                }
                Wish::AskLater
            }
        };
        if polls {
            let Place { offset, etag, modified } = &mut self.place;
            for (kept, new) in [(offset, head.next_offset), (etag, head.etag), (modified, head.modified)] {
                if let Some(new) = new {
                    kept.clear();
                    kept.extend_from_slice(new);
                }
            }
        }
        let framing = match (manner.transport, head.status) {
            (Websocket, 101) => Framing::FRAMES,
            _ => Framing::of(head.body),
        };
        // Who is told that the connection ends waits for that, connects again and asks then.
        let wish = if head.closes && polls { Wish::Read } else { wish };
        self.stage = Stage::Body { framing, wish };
        if manner.profile != Profile::Socketio {
            self.ready(tally);
        }
        Ok(())
    }

    fn payload(&mut self, bytes: &[u8], now_us: u64, manner: &Manner, tally: &mut Tally) {
        match self.role {
            Role::Subscriber(number) => {
                self.marks.feed(&manner.shape, bytes, |mark| tally.arrive(number, mark, now_us));
            }
            Role::Idle => self.marks.feed(&manner.shape, bytes, |_| tally.counts.idle += 1),
            Role::First | Role::Stalled => {}
        }
        if manner.transport == Transport::Portions {
            self.end.extend_from_slice(&bytes[bytes.len().saturating_sub(END_BYTES)..]);
            let surplus = self.end.len().saturating_sub(END_BYTES);
            self.end.drain(..surplus);
        }
    }

    fn end_of_message(&mut self, tally: &mut Tally) {
        if !self.marks.end() {
            tally.counts.cut += 1;
        }
    }

    /// Where a portioned answer ended.
    fn go_on(&mut self) {
        const NAME: &[u8] = br#""streamNextOffset":""#;
        if let Some(at) = memmem::rfind(&self.end, NAME) {
            let value = &self.end[at + NAME.len()..];
            let length = memchr::memchr(b'"', value).unwrap_or(0);
            self.place.offset.clear();
            self.place.offset.extend_from_slice(&value[..length]);
        }
        self.end.clear();
    }

    /// Engine.IO 4: an opening is answered by joining, a ping by a pong; a `40` says that we have joined.
    fn converse(&mut self, message: &[u8], tally: &mut Tally) -> io::Result<()> {
        match message {
            [b'0', ..] => self.say(&client_frame(1, b"40"), tally),
            [b'2', ..] => self.say(&client_frame(1, b"3"), tally),
            [b'4', b'0', ..] => {
                self.ready(tally);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn ready(&mut self, tally: &mut Tally) {
        if !self.is_ready {
            self.is_ready = true;
            tally.counts.ready += 1;
        }
    }

    /// What is said is small and the server reads it: that the socket takes only a part is an error.
    fn say(&mut self, bytes: &[u8], tally: &mut Tally) -> io::Result<()> {
        tally.counts.sent += bytes.len() as u64;
        self.socket.write_all(bytes)
    }
}
