//! Reads fjall's journals for what fjall itself passes over in silence.
//!
//! fjall ends its replay at the first entry that it cannot read, cuts the file there, and starts: right after a power cut in the
//! middle of the last batch, wrong if a damaged byte stands before batches that were acknowledged. So the committer numbers its groups and ends each
//! batch with that number and a sum over the batch; this module finds where the numbers break off and whether anything follows.
//!
//! ```text
//! 1 items(u32) seqno(u64) { 2 kind 0 keyspace(u64) key#(u16) value#(u32) value#(u32) key value }* 3 check(u64) "FJL\x03"
//! ```

use super::keys::{self, COMMIT};

/// What a journal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// The number of the last sound batch.
    pub(crate) last: Option<u64>,
    /// Where that batch ends.
    pub(crate) end: usize,
    /// Something follows that is not a sound next batch.
    pub(crate) broken: bool,
    /// Among it, a batch that was written later than the next one: so the next one was complete once.
    pub(crate) later: bool,
}

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const TRAILER: &[u8] = b"FJL\x03";

/// A group's number is this far ahead at most when it counts as found behind the break; random bytes are not.
const AHEAD_MAX: u64 = 1 << 32;

/// Reads the batches with numbers up to `until`, the first of which follows `before` if that is known.
pub(crate) fn scan(bytes: &[u8], before: Option<u64>, until: u64) -> Scan {
    let (mut last, mut end, mut order) = (before, 0, None);
    while let Some(Batch { number, seqno, length }) = batch(&bytes[end..]) {
        // fjall's check leaves its own sequence number out.
        let ordered = order.is_none_or(|order| seqno > order && seqno - order < AHEAD_MAX);
        if last.is_some_and(|last| number != last + 1) || number > until || !ordered {
            break;
        }
        (last, end, order) = (Some(number), end + length, Some(seqno));
    }
    let rest = &bytes[end..];
    let rest = &rest[..used(rest)];
    let broken = !rest.is_empty();
    // Without a sound batch before it, the first number found stands for the broken one.
    let mut next = last.map(|last| last + 1);
    let later = numbers(rest).any(|n| {
        let next = *next.get_or_insert(n);
        n > next && n - next < AHEAD_MAX
    });
    Scan { last: if end == 0 { None } else { last }, end, broken, later }
}

/// How long it is without the zeros at the end: fjall makes a journal 64 MiB long at once.
pub(crate) fn used(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    // Whole slices are compared in one go.
    while end >= ZEROS.len() && bytes[end - ZEROS.len()..end] == ZEROS {
        end -= ZEROS.len();
    }
    bytes[..end].iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}

/// The sum over a batch, to be kept with the number of the group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sum(u64);

impl Sum {
    pub(crate) fn new(number: u64) -> Self {
        Self(number).add(&[])
    }

    /// Any change of a single word changes the sum: each step is reversible.
    pub(crate) fn add(self, bytes: &[u8]) -> Self {
        let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        let (words, rest) = bytes.as_chunks::<8>();
        let sum = words.iter().fold(self.0, |sum, word| mix(sum, u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        Self(mix(mix(sum, u64::from_le_bytes(last)), bytes.len() as u64))
    }

    pub(crate) fn item(self, kept: bool, key: &[u8], value: &[u8]) -> Self {
        self.add(&[u8::from(!kept)]).add(key).add(value)
    }

    pub(crate) fn value(self) -> u64 {
        self.0
    }

    /// The value that stands under [`COMMIT`].
    pub(crate) fn commit(self, number: u64) -> [u8; 16] {
        let mut value = [0; 16];
        value[..8].copy_from_slice(&number.to_be_bytes());
        value[8..].copy_from_slice(&self.0.to_be_bytes());
        value
    }
}

struct Batch {
    number: u64,
    seqno: u64,
    length: usize,
}

/// The sound batch at the beginning.
fn batch(bytes: &[u8]) -> Option<Batch> {
    let mut from = bytes;
    let from = &mut from;
    if take(from, 1)? != [START] {
        return None;
    }
    let count = u32::from_le_bytes(take(from, 4)?.try_into().ok()?);
    let seqno = u64::from_le_bytes(take(from, 8)?.try_into().ok()?);
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(item(from)?);
    }
    if take(from, 1)? != [END] {
        return None;
    }
    take(from, 8)?;
    if take(from, TRAILER.len())? != TRAILER {
        return None;
    }
    let ((_, key, value), items) = items.split_last()?;
    let number = keys::number(value.get(..8)?)?;
    let sum = items.iter().fold(Sum::new(number), |sum, (kept, key, value)| sum.item(*kept, key, value));
    (*key == COMMIT && *value == sum.commit(number)).then_some(Batch {
        number,
        seqno,
        length: bytes.len() - from.len(),
    })
}

fn item<'a>(from: &mut &'a [u8]) -> Option<(bool, &'a [u8], &'a [u8])> {
    if take(from, 1)? != [ITEM] {
        return None;
    }
    let kind = take(from, 1)?[0];
    if take(from, 1)? != [0] {
        return None; // we do not let fjall compress its journal
    }
    take(from, 8)?;
    let key_length = u16::from_le_bytes(take(from, 2)?.try_into().ok()?);
    let length = take(from, 4)?;
    if take(from, 4)? != length {
        return None;
    }
    let length = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
    Some((kind == 0, take(from, usize::from(key_length))?, take(from, length)?))
}

fn take<'a>(from: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(taken)
}

/// The numbers in whatever looks like the last item of a batch.
fn numbers(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes
        .windows(COMMIT.len() + 8)
        .filter(|window| window[0] == COMMIT[0] && window.starts_with(COMMIT))
        .filter_map(|window| keys::number(&window[COMMIT.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let mut out = Vec::new();
        for number in numbers {
            let data = vec![7; 20];
            let commit = Sum::new(number).item(true, b"key", &data).commit(number);
            out.push(START);
            out.extend(2_u32.to_le_bytes());
            out.extend(number.to_le_bytes());
            for (key, value) in [(b"key".as_slice(), data.as_slice()), (COMMIT, &commit)] {
                out.extend([ITEM, 0, 0]);
                out.extend(1_u64.to_le_bytes());
                out.extend(u16::try_from(key.len()).unwrap().to_le_bytes());
                out.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
                out.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
                out.extend(key);
                out.extend(value);
            }
            out.push(END);
            out.extend([9; 8]);
            out.extend(TRAILER);
        }
        out
    }

    #[test]
    fn a_sound_journal_ends_in_zeros() {
        let mut bytes = batches(5..8);
        let end = bytes.len();
        bytes.extend([0; 100]);
        let sound = Scan { last: Some(7), end, broken: false, later: false };
        assert_eq!(scan(&bytes, None, u64::MAX), sound);
        assert_eq!(scan(&bytes, Some(4), u64::MAX), sound);
        assert!(scan(&bytes, Some(3), u64::MAX).broken, "a group is missing before it");
    }

    #[test]
    fn a_cut_at_any_place_leaves_the_whole_batches() {
        let bytes = batches(1..4);
        let length = bytes.len() / 3;
        for cut in 0..bytes.len() {
            let found = scan(&bytes[..cut], None, u64::MAX);
            assert_eq!(found.end, cut / length * length);
            assert_eq!(found.broken, cut % length != 0);
            assert!(!found.later);
        }
    }

    #[test]
    fn every_flipped_bit_is_found_and_later_batches_show_that_it_is_no_torn_end() {
        let bytes = batches(1..4);
        let length = bytes.len() / 3;
        let (seqno, check) = (5..13, length - 12..length - 4);
        for bit in 0..length * 8 {
            let mut flipped = bytes.clone();
            let at = length + bit / 8;
            flipped[at] ^= 1 << (bit % 8);
            if seqno.contains(&(at - length)) || check.contains(&(at - length)) || (at - length) / 8 == 99 {
                continue; // fjall's own check sees to these
            }
            let found = scan(&flipped, None, u64::MAX);
            let keyspace = found.end == bytes.len(); // likewise
            assert!(keyspace || (found.broken && found.later && found.last == Some(1)), "byte {}", at - length);
        }
    }

    #[test]
    fn what_was_not_acknowledged_is_behind_the_end() {
        let bytes = batches(1..4);
        let found = scan(&bytes, None, 2);
        assert_eq!((found.last, found.end, found.broken), (Some(2), bytes.len() / 3 * 2, true));
    }
}
