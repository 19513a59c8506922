//! Bookmarks: where a page of a listing stopped, for its `next`, when that is at a name which the client may not see.
//!
//! ```text
//! the last name that was looked at may be seen     next = the name
//! it may not                                       next = ./ and base64url of: nonce, the name under a key of this life of the server
//! ```
//!
//! No name begins with `./`, so neither is taken for the other. A bookmark is good for the listing that it was made in, until the server stops.

use std::io;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    rand,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use fourfold_protocol::{Code, Refusal};
use fourfold_stream::Unavailable;

use crate::context::unavailable;

/// Makes them, and reads its own.
pub(crate) struct Bookmarks(RandomizedNonceKey);

impl Bookmarks {
    /// With a key that nobody knows. Errors: the system gives no random bytes.
    pub(crate) fn new() -> io::Result<Self> {
        let mut key = [0; 32];
        rand::fill(&mut key).map_err(|_| io::Error::other("the system gives no random bytes"))?;
        Ok(Self(RandomizedNonceKey::new(&AES_256_GCM, &key).expect("the key is as long as the cipher's")))
    }

    /// One at `name`, in this listing.
    pub(crate) fn put(&self, listing: &str, name: &str) -> Result<String, Refusal> {
        let mut sealed = name.as_bytes().to_vec();
        sealed.resize(name.len().next_multiple_of(PADDED_BYTES), PADDING);
        let nonce = self.0.seal_in_place_append_tag(Aad::from(listing), &mut sealed);
        let nonce = nonce.map_err(|_| unavailable(&Unavailable::Failed("a bookmark could not be sealed".into())))?;
        Ok(format!("{PREFIX}{}", BASE64.encode([&nonce.as_ref()[..], &sealed].concat())))
    }

    /// The name behind which a listing goes on: what was said as `after`, or where that bookmark is.
    ///
    /// Errors: it is a bookmark, and none of ours in this listing.
    pub(crate) fn find(&self, listing: &str, after: String) -> Result<String, Refusal> {
        let Some(text) = after.strip_prefix(PREFIX) else { return Ok(after) };
        let opened = || {
            let mut bytes = BASE64.decode(text).ok()?;
            let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let name = self.0.open_in_place(nonce, Aad::from(listing), sealed).ok()?;
            let length = name.iter().rposition(|byte| *byte != PADDING).map_or(0, |last| last + 1);
            String::from_utf8(name[..length].to_vec()).ok()
        };
        opened().ok_or_else(|| {
            let detail = "'after' is not a 'next' that this listing has given since the server started: list again, without 'after'";
            Refusal::new(Code::InvalidQuery, detail)
        })
    }
}

const PREFIX: &str = "./";

/// Names are padded to a multiple of so many bytes: otherwise a bookmark's length would tell a name's.
const PADDED_BYTES: usize = 256;

/// In no name: a control character.
const PADDING: u8 = 0;

#[cfg(test)]
mod tests {
    use fourfold_protocol::StreamName;

    use super::*;

    #[test]
    fn a_bookmark_is_found_again_and_tells_nothing_of_the_name() {
        let bookmarks = Bookmarks::new().unwrap();
        let longest = "é".repeat(512);
        for name in ["a", "private/customer-1", longest.as_str()] {
            let bookmark = bookmarks.put("x", name).unwrap();
            assert_eq!(bookmarks.find("x", bookmark.clone()).unwrap(), name);
            assert!(StreamName::parse(&bookmark).is_err() && StreamName::new(&bookmark).is_err(), "{bookmark}");
            assert_ne!(bookmark, bookmarks.put("x", name).unwrap(), "two at one name cannot be told to be");
        }
        let length = |name| bookmarks.put("x", name).unwrap().len();
        assert_eq!(length("a"), length("private/customer-1"));
    }

    #[test]
    fn a_bookmark_of_another_listing_or_another_life_is_refused_and_a_name_is_taken_as_it_is() {
        let bookmarks = Bookmarks::new().unwrap();
        let bookmark = bookmarks.put("x", "secret").unwrap();
        let cut = bookmark[..bookmark.len() - 4].to_owned();
        for (listing, after) in [("y", bookmark.as_str()), ("x", &cut), ("x", "./"), ("x", "./a"), ("x", "./é")] {
            assert_eq!(bookmarks.find(listing, after.to_owned()).unwrap_err().code, Code::InvalidQuery, "{after}");
        }
        assert!(Bookmarks::new().unwrap().find("x", bookmark).is_err());
        for name in ["", "a", "secret", ".a/b"] {
            assert_eq!(bookmarks.find("x", name.to_owned()).unwrap(), name);
        }
    }
}
