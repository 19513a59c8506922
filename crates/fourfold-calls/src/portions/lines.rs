//! Lines: each with its line break is a record. The last one may have none.

use bytes::Bytes;
use memchr::memchr;

use super::{Malformed, malformed, too_large};

/// Cuts an output into its lines.
#[derive(Debug)]
pub(crate) struct Lines {
    /// Whether they must be UTF-8.
    is_text: bool,
    bytes_max: usize,
    /// The line that is not whole yet.
    held: Vec<u8>,
    /// Bytes of the output before it.
    told: u64,
}

const HELD_KEPT: usize = 16 * 1024; // A buffer that once held a long line is not kept for the short ones after it.

impl Lines {
    pub(super) fn new(is_text: bool, bytes_max: usize) -> Self {
        Self { is_text, bytes_max, held: Vec::new(), told: 0 }
    }

    pub(super) fn push(&mut self, bytes: &Bytes, records: &mut Vec<Bytes>) -> Result<(), Malformed> {
        let mut rest = bytes.clone();
        while let Some(end) = memchr(b'\n', &rest) {
            let part = rest.split_to(end + 1);
            self.fits(part.len())?;
            let line = if self.held.is_empty() { part } else { self.joined(&part) };
            self.tell(line, records)?;
        }
        self.fits(rest.len())?;
        self.held.extend_from_slice(&rest);
        Ok(())
    }

    pub(super) fn finish(&mut self, records: &mut Vec<Bytes>) -> Result<(), Malformed> {
        if self.held.is_empty() {
            return Ok(());
        }
        let line = self.joined(&[]);
        self.tell(line, records)
    }

    fn fits(&self, more: usize) -> Result<(), Malformed> {
        if self.held.len() + more > self.bytes_max {
            return Err(too_large("line", self.told, self.bytes_max));
        }
        Ok(())
    }

    fn joined(&mut self, part: &[u8]) -> Bytes {
        self.held.extend_from_slice(part);
        let line = Bytes::copy_from_slice(&self.held);
        self.held.clear();
        self.held.shrink_to(HELD_KEPT);
        line
    }

    fn tell(&mut self, line: Bytes, records: &mut Vec<Bytes>) -> Result<(), Malformed> {
        if self.is_text
            && let Err(e) = std::str::from_utf8(&line)
        {
            return Err(malformed(format!(
                "the line is not UTF-8 from byte {} on",
                self.told + e.valid_up_to() as u64
            )));
        }
        self.told += line.len() as u64;
        records.push(line);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Splitter, proof::*};
    use super::*;
    use proptest::prelude::*;

    fn lines(bytes_max: usize) -> Splitter {
        Splitter::Lines(Lines::new(true, bytes_max))
    }

    #[test]
    fn a_line_is_a_record_with_its_line_break() {
        let outcome = all(lines(99), &[b"one\ntw", b"o\r\n\nlast"]);
        assert_eq!(texts(&outcome), ["one\n", "two\r\n", "\n", "last"]);
        assert_eq!(all(lines(99), &[]), (Vec::new(), Ok(())));
    }

    #[test]
    fn a_line_that_never_ends_is_not_held_without_bound() {
        let outcome = all(lines(10), &[b"ok\n", b"012345678", b"9", b"a"]);
        assert_eq!(texts(&outcome), ["ok\n"]);
        assert_eq!(
            outcome.1.unwrap_err(),
            Malformed { code: "too-large", text: "the line that begins at byte 3 has more than 10 bytes".into() }
        );
        assert_eq!(all(lines(10), &[b"012345678\n"]).1, Ok(()));
    }

    #[test]
    fn only_a_text_must_be_utf8() {
        let broken = all(lines(99), &[b"a\nb\xff\n"]);
        assert_eq!(texts(&broken), ["a\n"]);
        assert_eq!(broken.1.unwrap_err().to_string(), "the line is not UTF-8 from byte 3 on");
        assert_eq!(all(Splitter::Lines(Lines::new(false, 99)), &[b"b\xff\n"]).1, Ok(()));
    }

    #[test]
    fn an_output_that_broke_off_tells_the_line_it_was_at() {
        let (mut lines, mut records) = (lines(99), Vec::new());
        lines.push(Bytes::from_static(b"a\nhalf"), &mut records).unwrap();
        lines.cut(&mut records);
        assert_eq!(records, ["a\n", "half"]);
    }

    proptest! {
        #[test]
        fn every_line_comes_with_its_line_break(text in "[a-zü\n]{0,40}") {
            let (mut lines, mut records) = (lines(99), Vec::new());
            for (at, &byte) in text.as_bytes().iter().enumerate() {
                lines.push(Bytes::copy_from_slice(&[byte]), &mut records).unwrap();
                let whole = text.as_bytes()[..=at].iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
                prop_assert_eq!(records.concat(), &text.as_bytes()[..whole]);
            }
        }
    }
}
