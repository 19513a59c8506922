//! How values are written: a version byte, then the fields in order. A reader refuses what it does not know.

use bytes::{Buf, BufMut};
use fourfold_protocol::{Epoch, Segment, StreamName};
use fourfold_stream::{Fork, Head, Producer, ProducerState, Retention, StreamConfig};

use crate::family::Ties;

/// The number of the layout in [`super::keys`] and of these encodings. Another number is refused at opening.
pub(crate) const FORMAT: u64 = 1;

const VERSION: u8 = 1;
/// A head with ties follows; one without is written as version 1.
const VERSION_TIED: u8 = 2;
/// A head with ties, whether there are any or not, and what was said of the end.
const VERSION_ENDED: u8 = 3;
/// The configuration of a stream, behind the note about it; without one it is written as version 1.
const VERSION_NOTED: u8 = 2;
/// The same, a note or none, and behind it where the stream was restored from a backup.
const VERSION_RESTORED: u8 = 3;
const NONE: u8 = 0;
const SOME: u8 = 1;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) epoch: Epoch,
    pub(crate) config: StreamConfig,
}

/// What the committer remembers of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) head: Head,
    /// Records before this one are gone from the disk, too.
    pub(crate) cleared: u64,
    /// The bytes of the records kept.
    pub(crate) bytes: u64,
    pub(crate) used_ms: u64,
    /// The stream's entry in the agenda; 0 for none.
    pub(crate) look_ms: u64,
    pub(crate) ties: Ties,
}

impl Named {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let config = &self.config;
        let mut out = match (&config.note, config.restored.is_empty()) {
            (None, true) => vec![VERSION],
            (Some(_), true) => vec![VERSION_NOTED],
            (None, false) => vec![VERSION_RESTORED, NONE],
            (Some(_), false) => vec![VERSION_RESTORED, SOME],
        };
        if let Some(note) = &config.note {
            put_text(&mut out, note);
        }
        if !config.restored.is_empty() {
            out.put_u32(u32::try_from(config.restored.len()).expect("nobody restores so often"));
            for segment in &config.restored {
                out.put_u64(segment.epoch.0);
                out.put_u64(segment.from);
            }
        }
        out.put_u64(self.epoch.0);
        put_text(&mut out, &config.content_type);
        put_option(&mut out, config.ttl_seconds);
        put_option(&mut out, config.expires_at_ms);
        put_option(&mut out, config.retention.age_seconds);
        put_option(&mut out, config.retention.bytes);
        put_option(&mut out, config.retention.records);
        out.put_u64(config.created_at_ms);
        match &config.forked {
            None => out.put_u8(NONE),
            Some(fork) => {
                out.put_u8(SOME);
                put_text(&mut out, fork.from.as_str());
                for number in [fork.epoch.0, fork.anchor, fork.sub, fork.depth] {
                    out.put_u64(number);
                }
                for segment in &fork.chain {
                    out.put_u64(segment.epoch.0);
                    out.put_u64(segment.from);
                }
            }
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, mut from) = bytes.split_first()?;
        let from = &mut from;
        let note = match *version {
            VERSION => None,
            VERSION_NOTED => Some(take_text(from)?),
            VERSION_RESTORED => match take_u8(from)? {
                NONE => None,
                SOME => Some(take_text(from)?),
                _ => return None,
            },
            _ => return None,
        };
        let restored = if *version == VERSION_RESTORED { take_segments(from)? } else { Vec::new() };
        let epoch = Epoch(take_u64(from)?);
        let config = StreamConfig {
            content_type: take_text(from)?,
            ttl_seconds: take_option(from)?,
            expires_at_ms: take_option(from)?,
            retention: Retention {
                age_seconds: take_option(from)?,
                bytes: take_option(from)?,
                records: take_option(from)?,
            },
            created_at_ms: take_u64(from)?,
            forked: match take_u8(from)? {
                NONE => None,
                SOME => Some(Box::new(take_fork(from)?)),
                _ => return None,
            },
            note,
            restored,
        };
        from.is_empty().then_some(Self { epoch, config })
    }
}

impl Log {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let tied = self.ties != Ties::default();
        let tied = tied || self.head.ending.is_some();
        let mut out = vec![match (&self.head.ending, tied) {
            (Some(_), _) => VERSION_ENDED,
            (None, true) => VERSION_TIED,
            (None, false) => VERSION,
        }];
        for number in [self.head.oldest, self.head.tail, self.cleared, self.bytes, self.used_ms, self.look_ms] {
            out.put_u64(number);
        }
        out.put_u8(u8::from(self.head.closed));
        match &self.head.last_seq {
            None => out.put_u8(NONE),
            Some(seq) => {
                out.put_u8(SOME);
                put_text(&mut out, seq);
            }
        }
        match &self.head.closed_by {
            None => out.put_u8(NONE),
            Some(by) => {
                out.put_u8(SOME);
                put_text(&mut out, &by.id);
                out.put_u64(by.epoch);
                out.put_u64(by.seq);
            }
        }
        if tied {
            out.put_u8(u8::from(self.ties.gone));
            out.put_u64(self.ties.shown);
            out.put_u64(self.ties.needs);
        }
        if let Some(ending) = &self.head.ending {
            put_text(&mut out, ending);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, mut from) = bytes.split_first()?;
        let from = &mut from;
        let (oldest, tail) = (take_u64(from)?, take_u64(from)?);
        let (cleared, bytes) = (take_u64(from)?, take_u64(from)?);
        let (used_ms, look_ms) = (take_u64(from)?, take_u64(from)?);
        let closed = take_u8(from)? != 0;
        let last_seq = match take_u8(from)? {
            NONE => None,
            SOME => Some(take_text(from)?),
            _ => return None,
        };
        let closed_by = match take_u8(from)? {
            NONE => None,
            SOME => Some(Producer { id: take_text(from)?, epoch: take_u64(from)?, seq: take_u64(from)? }),
            _ => return None,
        };
        let ties = match *version {
            VERSION => Ties::default(),
            VERSION_TIED | VERSION_ENDED => {
                Ties { gone: take_u8(from)? != 0, shown: take_u64(from)?, needs: take_u64(from)? }
            }
            _ => return None,
        };
        let ending = if *version == VERSION_ENDED { Some(take_text(from)?.into()) } else { None };
        let head = Head { oldest, tail, closed, last_seq, closed_by, ending };
        (from.is_empty() && oldest <= tail).then_some(Self { head, cleared, bytes, used_ms, look_ms, ties })
    }
}

pub(crate) fn encode_producer(state: ProducerState) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.put_u64(state.epoch);
    out.put_u64(state.seq);
    out
}

pub(crate) fn decode_producer(bytes: &[u8]) -> Option<ProducerState> {
    let mut from = versioned(bytes)?;
    let state = ProducerState { epoch: take_u64(&mut from)?, seq: take_u64(&mut from)? };
    from.is_empty().then_some(state)
}

/// A record has no version byte: there are too many of them. Format 2 may tell them apart by the keyspace.
pub(crate) fn encode_record(at_ms: u64, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + data.len());
    out.put_u64(at_ms);
    out.put_slice(data);
    out
}

/// The time of the append, and the data.
pub(crate) fn decode_record(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut from = bytes;
    let at_ms = take_u64(&mut from)?;
    Some((at_ms, from))
}

fn versioned(bytes: &[u8]) -> Option<&[u8]> {
    bytes.split_first().filter(|(version, _)| **version == VERSION).map(|(_, rest)| rest)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.put_u32(u32::try_from(text.len()).expect("names, ids and header values are far below 4 GiB"));
    out.put_slice(text.as_bytes());
}

fn put_option(out: &mut Vec<u8>, number: Option<u64>) {
    match number {
        None => out.put_u8(NONE),
        Some(number) => {
            out.put_u8(SOME);
            out.put_u64(number);
        }
    }
}

/// The chain is the last field: it ends with the value.
fn take_fork(from: &mut &[u8]) -> Option<Fork> {
    let name = StreamName::new(&take_text(from)?).ok()?;
    let (epoch, anchor) = (Epoch(take_u64(from)?), take_u64(from)?);
    let (sub, depth) = (take_u64(from)?, take_u64(from)?);
    let mut chain = Vec::new();
    while !from.is_empty() {
        chain.push(Segment { epoch: Epoch(take_u64(from)?), from: take_u64(from)? });
    }
    let (first, own) = (chain.first()?, chain.last()?);
    let sound = chain.len() > 1 && first.from == 0 && chain.is_sorted_by_key(|segment| segment.from);
    let point = own.from;
    (sound && anchor <= point).then_some(Fork { from: name, epoch, anchor, sub, depth, point, chain })
}

fn take_segments(from: &mut &[u8]) -> Option<Vec<Segment>> {
    let count = from.try_get_u32().ok()?;
    let segments: Vec<_> =
        (0..count).map_while(|_| Some(Segment { epoch: Epoch(take_u64(from)?), from: take_u64(from)? })).collect();
    let sound = segments.is_sorted_by_key(|segment| segment.from) && !segments.is_empty();
    (sound && segments.len() == count as usize).then_some(segments)
}

fn take_u8(from: &mut &[u8]) -> Option<u8> {
    from.try_get_u8().ok()
}

fn take_u64(from: &mut &[u8]) -> Option<u64> {
    from.try_get_u64().ok()
}

fn take_text(from: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(from.try_get_u32().ok()?).ok()?;
    let (text, rest) = from.split_at_checked(length)?;
    *from = rest;
    String::from_utf8(text.to_vec()).ok()
}

fn take_option(from: &mut &[u8]) -> Option<Option<u64>> {
    match take_u8(from)? {
        NONE => Some(None),
        SOME => take_u64(from).map(Some),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::NOTHING;
    use proptest::prelude::*;

    fn named() -> Named {
        Named {
            epoch: Epoch(0x0102_0304_0506),
            config: StreamConfig {
                content_type: "text/plain".into(),
                ttl_seconds: Some(7),
                expires_at_ms: None,
                retention: Retention { age_seconds: None, bytes: Some(8), records: None },
                created_at_ms: 9,
                forked: None,
                note: None,
                restored: Vec::new(),
            },
        }
    }

    fn log() -> Log {
        Log {
            head: Head {
                oldest: 1,
                tail: 2,
                closed: true,
                last_seq: Some("s".into()),
                closed_by: Some(Producer { id: "p".into(), epoch: 3, seq: 4 }),
                ending: None,
            },
            cleared: 5,
            bytes: 6,
            used_ms: 7,
            look_ms: 8,
            ties: Ties::default(),
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Written by the first format: later ones must go on reading these bytes, or refuse by another [`FORMAT`].
    #[test]
    fn the_first_format_stays_readable() {
        let name = "0100000102030405060000000a746578742f706c61696e\
                    010000000000000007000001000000000000000800000000000000000900";
        assert_eq!(hex(&named().encode()), name);
        let head = "01000000000000000100000000000000020000000000000005000000000000000600000000000000070000000000000008\
                    01010000000173010000000170\
                    00000000000000030000000000000004"
            .replace(char::is_whitespace, "");
        assert_eq!(hex(&log().encode()), head);
        assert_eq!(hex(&encode_producer(ProducerState { epoch: 1, seq: 2 })), "0100000000000000010000000000000002");
        assert_eq!(hex(&encode_record(1, b"a")), "000000000000000161");
    }

    /// The same of the forms that came later, each beside the first.
    #[test]
    fn later_forms_stay_readable() {
        let head = &hex(&log().encode())[2..];
        let ties = "010000000000000004ffffffffffffffff";
        let mut log = Log { ties: Ties { gone: true, shown: 4, needs: NOTHING }, ..log() };
        assert_eq!(hex(&log.encode()), format!("02{head}{ties}"));
        log.head.ending = Some("{}".into());
        assert_eq!(hex(&log.encode()), format!("03{head}{ties}000000027b7d"));
        let mut named = named();
        let name = hex(&named.encode())[2..].to_owned();
        named.config.note = Some("n".into());
        assert_eq!(hex(&named.encode()), format!("02000000016e{name}"));
        named.config.restored = vec![Segment { epoch: Epoch(7), from: 2 }];
        let restored = "0000000100000000000000070000000000000002";
        assert_eq!(hex(&named.encode()), format!("0301000000016e{restored}{name}"));
        named.config.note = None;
        assert_eq!(hex(&named.encode()), format!("0300{restored}{name}"));
    }

    #[test]
    fn values_read_back() {
        assert_eq!(Named::decode(&named().encode()), Some(named()));
        let mut forked = named();
        let chain = vec![Segment { epoch: Epoch(1), from: 0 }, Segment { epoch: Epoch(3), from: 2 }];
        let fork = Fork {
            from: StreamName::new("p/q").unwrap(),
            epoch: Epoch(1),
            anchor: 1,
            sub: 1,
            depth: 1,
            point: 2,
            chain,
        };
        forked.config.forked = Some(Box::new(fork));
        assert_eq!(Named::decode(&forked.encode()), Some(forked.clone()));
        forked.config.note = Some("n".into());
        assert_eq!(Named::decode(&forked.encode()), Some(forked.clone()));
        forked.config.restored = vec![Segment { epoch: Epoch(7), from: 2 }, Segment { epoch: Epoch(8), from: 2 }];
        assert_eq!(Named::decode(&forked.encode()), Some(forked));
        let tied = Log { ties: Ties { gone: true, shown: 4, needs: NOTHING }, ..log() };
        let mut ended = tied.clone();
        assert_eq!(Log::decode(&tied.encode()), Some(tied));
        ended.head.ending = Some("{}".into());
        assert_eq!(Log::decode(&ended.encode()), Some(ended.clone()));
        ended.ties = Ties::default();
        assert_eq!(Log::decode(&ended.encode()), Some(ended));
        assert_eq!(Log::decode(&log().encode()), Some(log()));
        assert_eq!(Log::decode(&Log::default().encode()), Some(Log::default()));
        let state = ProducerState { epoch: 1, seq: u64::MAX };
        assert_eq!(decode_producer(&encode_producer(state)), Some(state));
        assert_eq!(decode_record(&encode_record(9, b"xy")), Some((9, b"xy".as_slice())));
    }

    #[test]
    fn a_value_that_is_cut_or_longer_is_refused() {
        let noted = Named { config: StreamConfig { note: Some("n".into()), ..named().config }, ..named() };
        let ended = Log { head: Head { ending: Some("{}".into()), ..log().head }, ..log() };
        let restored = vec![Segment { epoch: Epoch(7), from: 2 }];
        let restored = Named { config: StreamConfig { restored, ..named().config }, ..named() };
        for bytes in [named().encode(), log().encode(), noted.encode(), ended.encode(), restored.encode()] {
            for end in 0..bytes.len() {
                assert!(Named::decode(&bytes[..end]).is_none() && Log::decode(&bytes[..end]).is_none());
            }
            let longer = [bytes.as_slice(), &[0]].concat();
            assert!(Named::decode(&longer).is_none() && Log::decode(&longer).is_none());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Named::decode(&bytes), Log::decode(&bytes), decode_producer(&bytes), decode_record(&bytes));
        }
    }
}
