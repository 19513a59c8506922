//! UTF-8 as it comes, cut between characters: no portion waits for more than the rest of its last character.

use bytes::Bytes;

use super::{Malformed, in_portions, malformed};

/// Cuts a text where its pushes end.
#[derive(Debug, Default)]
pub(crate) struct Text {
    /// The beginning of a character: at most three bytes.
    held: Vec<u8>,
    /// Bytes of the output before `held`.
    told: u64,
}

impl Text {
    pub(super) fn push(&mut self, bytes: &Bytes, records: &mut Vec<Bytes>) -> Result<(), Malformed> {
        let bytes = if self.held.is_empty() {
            bytes.clone()
        } else {
            let mut joined = std::mem::take(&mut self.held);
            joined.extend_from_slice(bytes);
            joined.into()
        };
        let (whole, is_broken) = match std::str::from_utf8(&bytes) {
            Ok(_) => (bytes.len(), false),
            Err(e) => (e.valid_up_to(), e.error_len().is_some()),
        };
        in_portions(&bytes.slice(..whole), |byte| byte & 0b1100_0000 != 0b1000_0000, records);
        self.told += whole as u64;
        if is_broken {
            return Err(malformed(format!("the text is not UTF-8 from byte {} on", self.told)));
        }
        self.held.extend_from_slice(&bytes[whole..]);
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<(), Malformed> {
        if self.held.is_empty() {
            return Ok(());
        }
        Err(malformed(format!("the text ends within the character at byte {}", self.told)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Splitter, proof::*};
    use super::*;
    use crate::limits::PORTION_BYTES;
    use proptest::prelude::*;

    #[test]
    fn a_portion_ends_between_two_characters() {
        let emoji = "a😀".as_bytes();
        let outcome = all(Splitter::Text(Text::default()), &[&emoji[..1], &emoji[1..3], &emoji[3..], b"b"]);
        assert_eq!(texts(&outcome), ["a", "😀", "b"]);
        let long = "ü".repeat(PORTION_BYTES);
        let outcome = all(Splitter::Text(Text::default()), &[b"x", long.as_bytes(), b"y"]);
        assert_eq!(texts(&outcome).concat(), format!("x{long}y"));
        assert!(outcome.0.iter().all(|record| record.len() <= PORTION_BYTES));
    }

    #[test]
    fn what_is_no_text_is_told_with_its_place() {
        let latin = all(Splitter::Text(Text::default()), &[b"gr", b"\xc3\xbc\xdfe"]);
        assert_eq!(texts(&latin), ["gr", "ü"]);
        assert_eq!(latin.1.unwrap_err().to_string(), "the text is not UTF-8 from byte 4 on");
        let cut = all(Splitter::Text(Text::default()), &[b"a\xf0\x9f"]);
        assert_eq!(cut.1.unwrap_err().to_string(), "the text ends within the character at byte 1");
    }

    proptest! {
        #[test]
        fn every_character_comes_with_the_byte_that_completes_it(text in "[a-zü€😀]{0,20}") {
            let mut splitter = Splitter::Text(Text::default());
            let mut records = Vec::new();
            for (at, &byte) in text.as_bytes().iter().enumerate() {
                splitter.push(Bytes::copy_from_slice(&[byte]), &mut records).unwrap();
                let whole = (0..=at + 1).rev().find(|&end| text.is_char_boundary(end)).unwrap();
                prop_assert_eq!(records.concat(), &text.as_bytes()[..whole]);
            }
        }
    }
}
