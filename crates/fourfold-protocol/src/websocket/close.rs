//! Close codes: those that we send, each with a stable name, and which ones a client may send.

use std::str;

use super::broken::Broken;

macro_rules! codes {
    ($($name:ident = $code:literal, $reason:literal, $doc:literal;)*) => {
        /// Why the server closes: a code for programs and a stable name, sent as the reason.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum CloseCode { $(#[doc = $doc] $name,)* }

        impl CloseCode {
            /// Every code, in the order of the numbers.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The number on the wire.
            #[must_use]
            pub const fn code(self) -> u16 { match self { $(Self::$name => $code),* } }

            /// The reason on the wire: what to program against, as `code` in a problem.
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(Self::$name => $reason),* } }
        }
    };
}

codes! {
    StreamClosed = 1000, "stream-closed", "The stream is closed and its end was reached.";
    Draining = 1001, "draining", "The server is about to stop.";
    ProtocolError = 1002, "protocol-error", "The client broke RFC 6455 or 7692.";
    TextOnly = 1003, "text-only", "The client sent a binary message.";
    InvalidUtf8 = 1007, "invalid-utf8", "The client sent text that is not UTF-8.";
    MessageTooBig = 1009, "message-too-big", "The client sent a message over the limit.";
    Internal = 1011, "internal", "The server failed.";
    Overloaded = 1013, "overloaded", "Too much is under way on all connections together: come back later.";
    TokenExpired = 4401, "token-expires", "The token ends, or no longer permits this: come back with another one.";
    StreamDeleted = 4404, "stream-deleted", "The stream was deleted or has expired.";
    TooSlow = 4408, "too-slow", "The reader took nothing for too long: it can come back with its offset.";
}

/// What a client said when it closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// A code that may be sent: 1000 to 1003, 1007 to 1014, or 3000 to 4999.
    pub code: u16,
    /// For people; often empty.
    pub reason: String,
}

impl Close {
    /// Reads the payload of a close frame; `None` if it is empty, which is allowed.
    ///
    /// Errors: [`Broken::InvalidClose`], [`Broken::InvalidUtf8`].
    pub fn parse(payload: &[u8]) -> Result<Option<Self>, Broken> {
        match payload {
            [] => Ok(None),
            [_] => Err(Broken::InvalidClose),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !may_be_sent(code) {
                    return Err(Broken::InvalidClose);
                }
                let reason = str::from_utf8(reason).map_err(|_| Broken::InvalidUtf8)?;
                Ok(Some(Self { code, reason: reason.to_owned() }))
            }
        }
    }
}

/// 1004 is undefined, 1005, 1006 and 1015 are for APIs only; up to 1014 the registry has filled up since the RFC.
/// Spec: RFC 6455 "Defined Status Codes".
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_our_close_codes() {
        let page = include_str!("../../../../docs/protocol.md");
        for code in CloseCode::ALL {
            let entry = format!("{} `{}`", code.code(), code.as_str());
            assert!(page.contains(&entry), "docs/protocol.md: the line of close codes lacks {entry}");
        }
        let line = page.lines().find(|l| l.starts_with("WebSocket close codes:")).expect("the page has the line");
        assert_eq!(line.split(" · ").count(), CloseCode::ALL.len());
    }

    #[test]
    fn what_we_send_we_would_accept() {
        for code in CloseCode::ALL {
            let payload = [&code.code().to_be_bytes()[..], code.as_str().as_bytes()].concat();
            let close = Close::parse(&payload).expect("our own code is valid").expect("it is there");
            assert_eq!((close.code, &*close.reason), (code.code(), code.as_str()));
        }
    }

    #[test]
    fn codes_that_must_not_be_sent_are_refused() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535_u16] {
            assert_eq!(Close::parse(&code.to_be_bytes()), Err(Broken::InvalidClose), "{code}");
        }
    }
}
