//! Spans, out of what a collector gets. Read by hand: what is tested should not be read by itself. Spec: OTLP, "trace.proto".

use std::{collections::BTreeMap, str};

#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty for a root.
    pub(crate) parent: String,
    pub(crate) state: String,
    pub(crate) name: String,
    pub(crate) kind: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Written out, whatever their type.
    pub(crate) attributes: BTreeMap<String, String>,
    /// 2 is an error.
    pub(crate) status: u64,
    pub(crate) resource: BTreeMap<String, String>,
}

/// The four spans of one append.
pub(crate) struct Trace {
    pub(crate) receive: Span,
    pub(crate) queue: Span,
    pub(crate) commit: Span,
    pub(crate) acknowledge: Span,
}

impl Span {
    /// Those in an export.
    pub(crate) fn all(export: &[u8]) -> Vec<Self> {
        let mut all = Vec::new();
        for of_resource in messages(export, 1) {
            let resource = messages(of_resource, 1).into_iter().flat_map(|resource| attributes(resource, 1)).collect();
            for of_scope in messages(of_resource, 2) {
                all.extend(messages(of_scope, 2).into_iter().map(|span| Self::read(span, &resource)));
            }
        }
        all
    }

    fn read(span: &[u8], resource: &BTreeMap<String, String>) -> Self {
        let status = messages(span, 15).first().map_or(0, |status| number(status, 3));
        Self {
            trace: hex(bytes(span, 1)),
            id: hex(bytes(span, 2)),
            state: text(span, 3),
            parent: hex(bytes(span, 4)),
            name: text(span, 5),
            kind: number(span, 6),
            start: number(span, 7),
            end: number(span, 8),
            attributes: attributes(span, 9).collect(),
            status,
            resource: resource.clone(),
        }
    }

    /// An attribute, or nothing.
    pub(crate) fn says(&self, key: &str) -> Option<&str> {
        self.attributes.get(key).map(String::as_str)
    }

    fn lies_in(&self, other: &Self) -> bool {
        other.start <= self.start && self.start <= self.end && self.end <= other.end
    }
}

impl Trace {
    /// The append's spans, of this trace: all four, each where it belongs in the tree and in time.
    pub(crate) fn of(spans: &[Span], trace: &str) -> Self {
        let one = |name: &str| {
            let mut found = spans.iter().filter(|span| span.trace == trace && span.name == name);
            let span = found.next().unwrap_or_else(|| panic!("no span {name} of {trace} in {spans:#?}"));
            assert!(found.next().is_none(), "{name} is there twice: {spans:#?}");
            span.clone()
        };
        let all = Self {
            receive: one("receive"),
            queue: one("queue"),
            commit: one("commit"),
            acknowledge: one("acknowledge"),
        };
        assert_eq!(all.receive.kind, SERVER);
        let parts = [&all.queue, &all.commit, &all.acknowledge];
        for part in parts {
            assert_eq!((&part.parent, part.kind), (&all.receive.id, INTERNAL), "{part:#?}");
            assert!(part.lies_in(&all.receive), "{part:#?} does not lie in {:#?}", all.receive);
        }
        assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start), "one begins where the one before ends");
        assert_eq!(all.acknowledge.end, all.receive.end);
        all
    }
}

const INTERNAL: u64 = 1;
const SERVER: u64 = 2;

/// The value of a field.
#[derive(Clone, Copy)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, in their order. Spec: Protocol Buffers, "Encoding".
fn fields(mut message: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut all = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut message)),
            1 => Field::Number(u64::from_le_bytes(take(&mut message, 8).try_into().expect("8 bytes"))),
            2 => {
                let length = usize::try_from(varint(&mut message)).expect("a length");
                Field::Bytes(take(&mut message, length))
            }
            5 => Field::Number(u32::from_le_bytes(take(&mut message, 4).try_into().expect("4 bytes")).into()),
            other => panic!("no wire type {other}"),
        };
        all.push((key >> 3, field));
    }
    all
}

fn varint(message: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(message, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a number without an end");
}

fn take<'a>(message: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = message.split_at(count);
    *message = rest;
    taken
}

fn messages(message: &[u8], number: u64) -> Vec<&[u8]> {
    let of_number = |(n, field)| match field {
        Field::Bytes(bytes) if n == number => Some(bytes),
        _ => None,
    };
    fields(message).into_iter().filter_map(of_number).collect()
}

fn bytes(message: &[u8], number: u64) -> &[u8] {
    messages(message, number).last().copied().unwrap_or_default()
}

fn text(message: &[u8], number: u64) -> String {
    str::from_utf8(bytes(message, number)).expect("text is UTF-8").to_owned()
}

fn number(message: &[u8], number: u64) -> u64 {
    let of_number = |(n, field)| match field {
        Field::Number(value) if n == number => Some(value),
        _ => None,
    };
    fields(message).into_iter().filter_map(of_number).next_back().unwrap_or(0)
}

fn attributes(message: &[u8], of: u64) -> impl Iterator<Item = (String, String)> {
    messages(message, of).into_iter().map(|pair| {
        let value = match fields(bytes(pair, 2)).first() {
            Some((1, Field::Bytes(text))) => str::from_utf8(text).expect("text is UTF-8").to_owned(),
            Some((2, Field::Number(flag))) => (*flag != 0).to_string(),
            Some((3, Field::Number(number))) => number.to_string(),
            other => panic!("no such value here: {:?}", other.map(|(number, _)| number)),
        };
        (text(pair, 1), value)
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
