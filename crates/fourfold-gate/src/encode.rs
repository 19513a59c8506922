//! Encoding a portion of JSON records in a dialect.

use std::{cell::RefCell, hint::black_box};

use bytes::Bytes;
use fourfold_protocol::{
    Epoch, Kind, Offset, Portion, Record, message, sse,
    websocket::{Agreed, Deflater, SharedFrame, negotiate},
};

use crate::{counted, record};

/// Encodes a portion of so many records again and again.
pub(crate) fn run(rounds: u32, records: u32, encode: fn(&Portion<'_>) -> Bytes) {
    counted(move || {
        let records: Vec<Record> =
            (0..records).map(|n| Record { position: n.into(), data: record(n).into() }).collect();
        let next = Offset { epoch: Epoch(1_700_000_000_000), position: records.len() as u64 };
        let portion = Portion {
            kind: Kind::Json,
            records: &records,
            next,
            chain: &[],
            up_to_date: true,
            closed: false,
            cursor: Some(3_000_000),
            gap: None,
            ending: None,
        };
        for _ in 0..WARM_UP + rounds {
            black_box(encode(black_box(&portion)));
        }
    });
}

/// The first ones make the deflater and what else is made once.
const WARM_UP: u32 = 10;

pub(crate) fn sse(portion: &Portion<'_>) -> Bytes {
    let mut events = Vec::with_capacity(512);
    sse::write(portion, &mut events);
    events.into()
}

/// Also a line of NDJSON, but for its end.
pub(crate) fn message(portion: &Portion<'_>) -> Bytes {
    let mut json = Vec::with_capacity(512);
    message::write(portion, &mut json);
    json.into()
}

pub(crate) fn websocket(portion: &Portion<'_>) -> Bytes {
    framed(portion, None)
}

pub(crate) fn deflated(portion: &Portion<'_>) -> Bytes {
    framed(portion, negotiate(["permessage-deflate"]))
}

fn framed(portion: &Portion<'_>, agreed: Option<Agreed>) -> Bytes {
    thread_local!(static DEFLATER: RefCell<Deflater> = RefCell::default());
    let json = message(portion);
    DEFLATER.with_borrow_mut(|deflater| SharedFrame::text(&json).encoded_for(agreed, deflater))
}
