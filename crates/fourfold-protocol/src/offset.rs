//! Offsets: sortable tokens for places in a stream.
//!
//! ```text
//! 019aab3f2c10_0000000000000042
//! └ epoch, hex ┘└── position ──┘   both zero-padded, so tokens sort as bytes in stream order
//! ```
//!
//! The same token on every transport. Spec: "Offsets".

use std::fmt;

/// Which life of a stream an offset belongs to. Greater for a later creation, on the whole server, so that it
/// also tells streams apart. Fits in 48 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The greatest epoch that fits into a token.
    pub const MAX: Self = Self((1 << 48) - 1);
}

/// A place in a stream: before the record at `position`, or the tail.
///
/// Orders by epoch, then by position, and its token sorts the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset {
    /// Which life of the stream.
    pub epoch: Epoch,
    /// How many places lie before it; an engine may leave holes.
    pub position: u64,
}

/// A run of records in a fork: up to the next segment, the last one without end. May be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The life that they were appended to.
    pub epoch: Epoch,
    /// The position of the first one.
    pub from: u64,
}

/// The greatest position that fits into a token.
pub const POSITION_MAX: u64 = 9_999_999_999_999_999;

const TOKEN_BYTES: usize = 12 + 1 + 16;

impl Offset {
    /// Reads a token; `None` unless it is one that [`Display`](fmt::Display) could have written.
    #[must_use]
    pub fn parse(token: &str) -> Option<Self> {
        let bytes = token.as_bytes();
        if bytes.len() != TOKEN_BYTES || bytes[12] != b'_' {
            return None;
        }
        let is_hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
        if !bytes[..12].iter().all(is_hex) || !bytes[13..].iter().all(u8::is_ascii_digit) {
            return None; // from_str_radix would take a sign or upper case
        }
        Some(Self { epoch: Epoch(u64::from_str_radix(&token[..12], 16).ok()?), position: token[13..].parse().ok()? })
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_assert!(self.epoch <= Epoch::MAX && self.position <= POSITION_MAX);
        // By hand: a token is written for every portion and every poll, and formatting machinery would cost more than the poll.
        let mut token = *b"000000000000_0000000000000000";
        let (mut epoch, mut position) = (self.epoch.0, self.position);
        for digit in token[..12].iter_mut().rev() {
            *digit = b"0123456789abcdef"[(epoch & 15) as usize];
            epoch >>= 4;
        }
        for digit in token[13..].iter_mut().rev() {
            *digit = b'0' + (position % 10) as u8;
            position /= 10;
        }
        f.write_str(str::from_utf8(&token).expect("digits are text"))
    }
}

/// Where a request wants to read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// `-1`, or no offset at all: the oldest record kept.
    Oldest,
    /// `now`: the tail, skipping what is there.
    Now,
    /// A token.
    At(Offset),
}

impl Start {
    /// Reads the value of `offset=` (or of `Last-Event-ID`); `None` if it is malformed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "-1" => Some(Self::Oldest),
            "now" => Some(Self::Now),
            token => Offset::parse(token).map(Self::At),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_token_reads_back(epoch in 0..=Epoch::MAX.0, position in 0..=POSITION_MAX) {
            let offset = Offset { epoch: Epoch(epoch), position };
            prop_assert_eq!(Offset::parse(&offset.to_string()), Some(offset));
        }

        #[test]
        fn tokens_sort_as_offsets(a in (0..=Epoch::MAX.0, 0..=POSITION_MAX), b in (0..=Epoch::MAX.0, 0..=POSITION_MAX)) {
            let of = |(epoch, position)| Offset { epoch: Epoch(epoch), position };
            prop_assert_eq!(of(a).cmp(&of(b)), of(a).to_string().cmp(&of(b).to_string()));
        }

        #[test]
        fn only_our_own_tokens_are_read(text in "\\PC{0,40}") {
            if let Some(offset) = Offset::parse(&text) {
                prop_assert_eq!(offset.to_string(), text);
            }
        }
    }

    #[test]
    fn signs_case_and_length_matter() {
        for bad in [
            "",
            "0",
            "+19aab3f2c10_0000000000000042",
            "019AAB3F2C10_0000000000000042",
            "019aab3f2c10_+000000000000042",
            "019aab3f2c10-0000000000000042",
            "019aab3f2c10_00000000000000042",
            "é19aab3f2c1_0000000000000042",
        ] {
            assert_eq!(Start::parse(bad), None, "{bad}");
        }
    }
}
