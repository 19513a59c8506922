//! Which request a key stands for, and the names of calls that nobody can guess.

use std::collections::{HashMap, VecDeque};

use aws_lc_rs::{
    digest,
    rand::{SecureRandom, SystemRandom},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde::{Deserialize, Serialize};

use crate::limits::KEYS_MAX;

/// What a call's stream keeps of how it came about: enough to know the request again, and not the key itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The name of the call.
    pub(crate) call: String,
    /// The digest of its key, if it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<Digest>,
    /// The digest of what was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<Digest>,
}

impl Note {
    /// `None`: the stream is not a call's.
    pub(crate) fn read(note: Option<&str>) -> Option<Self> {
        serde_json::from_str(note?).ok()
    }

    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).expect("a note can be written to memory")
    }
}

/// SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    /// Of all these together; where one ends and the next begins counts.
    pub(crate) fn of(parts: &[&[u8]]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        Self(context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        BASE64.encode(digest.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = BASE64.decode(text).map_err(|_| "not base64url")?;
        bytes.try_into().map(Self).map_err(|_| "not 32 bytes")
    }
}

/// The keys of the calls that are kept. A cache of what their notes say: a call whose stream has gone is not known any more.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    known: HashMap<Digest, Known>,
    /// Oldest first, with some that were replaced or forgotten since.
    order: VecDeque<(u64, Digest)>,
    remembered: u64,
}

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) id: String,
    pub(crate) request: Digest,
    number: u64,
}

impl Keys {
    pub(crate) fn get(&self, key: &Digest) -> Option<&Known> {
        self.known.get(key)
    }

    /// Beyond [`KEYS_MAX`] the oldest is forgotten.
    pub(crate) fn remember(&mut self, key: Digest, id: String, request: Digest) {
        self.remembered += 1;
        let number = self.remembered;
        self.known.insert(key, Known { id, request, number });
        self.order.push_back((number, key));
        while self.order.len() > KEYS_MAX {
            if let Some((number, key)) = self.order.pop_front()
                && self.known.get(&key).is_some_and(|known| known.number == number)
            {
                self.known.remove(&key);
            }
        }
    }

    /// The call that it stood for has gone.
    pub(crate) fn forget(&mut self, key: &Digest, id: &str) {
        if self.known.get(key).is_some_and(|known| known.id == id) {
            self.known.remove(key);
        }
    }
}

/// The system gives no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes")]
pub(crate) struct NoRandomness;

/// A call's id: who knows it can read the call and cancel it, so nobody can guess it. In byte order later ones come first, so that a page of the
/// newest calls is a page of the engine's own list.
pub(crate) fn fresh_id(now_ms: u64) -> Result<String, NoRandomness> {
    let mut bytes = [0; 20];
    let left = TIME_END_MS.saturating_sub(now_ms).to_be_bytes();
    bytes[..6].copy_from_slice(&left[2..]);
    SystemRandom::new().fill(&mut bytes[6..]).map_err(|_| NoRandomness)?;
    Ok(base32(&bytes))
}

/// What fits in the six bytes of an id, in milliseconds since the Unix epoch: ten thousand years. The rest is 112 bits of chance.
const TIME_END_MS: u64 = (1 << 48) - 1;

/// Digits and small letters whose byte order is that of the bytes.
fn base32(bytes: &[u8; 20]) -> String {
    let mut text = String::with_capacity(32);
    for five in bytes.chunks_exact(5) {
        let number = five.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        for digit in (0..8).rev() {
            let digit = usize::try_from(number >> (digit * 5) & 31).expect("it is less than 32");
            text.push(char::from(b"0123456789abcdefghijklmnopqrstuv"[digit]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_call_comes_first_and_no_two_are_alike() {
        let ids = [2_000_000_000_000, 1_790_000_000_001, 1_790_000_000_000, 0].map(|ms| fresh_id(ms).unwrap());
        assert!(ids.is_sorted(), "{ids:?}");
        assert_ne!(fresh_id(7).unwrap(), fresh_id(7).unwrap());
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_alphanumeric())));
    }

    #[test]
    fn where_one_part_ends_counts() {
        assert_ne!(Digest::of(&[b"a", b"bc"]), Digest::of(&[b"ab", b"c"]));
        assert_ne!(Digest::of(&[b""]), Digest::of(&[b"", b""]));
    }

    #[test]
    fn a_note_reads_back_and_other_words_are_none() {
        let note = Note { call: "report".into(), key: Some(Digest::of(&[b"k"])), request: None };
        assert_eq!(Note::read(Some(&note.text())), Some(note));
        for other in [None, Some(""), Some("{}"), Some("[]"), Some(r#"{"call":"x","key":"short"}"#)] {
            assert_eq!(Note::read(other), None, "{other:?}");
        }
    }

    #[test]
    fn the_oldest_key_is_forgotten_first_and_one_used_again_is_young() {
        let (mut keys, request) = (Keys::default(), Digest::of(&[]));
        let key = |n: usize| Digest::of(&[&n.to_be_bytes()]);
        keys.remember(key(0), "old".into(), request);
        keys.remember(key(1), "1".into(), request);
        keys.forget(&key(0), "another");
        assert!(keys.get(&key(0)).is_some());
        keys.forget(&key(0), "old");
        assert!(keys.get(&key(0)).is_none());
        keys.remember(key(0), "new".into(), request);
        for n in 2..=KEYS_MAX {
            keys.remember(key(n), n.to_string(), request);
        }
        assert_eq!(keys.get(&key(0)).map(|known| known.id.as_str()), Some("new"));
        assert!(keys.get(&key(1)).is_none());
        assert!(keys.known.len() <= KEYS_MAX && keys.order.len() <= KEYS_MAX);
    }
}
