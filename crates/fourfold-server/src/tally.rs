//! What a shard counts. Written by the thread of that shard alone, so that adding is a load and a store; read by whoever scrapes.
//!
//! Labels are of closed sets, each a type here; a count is found by an index, never by a name.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use fourfold_protocol::Code;
use fourfold_stream::{
    Frame,
    meter::{Histogram, MICROS},
};
use http::{Method, StatusCode};

macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$doc])* $variant),* }

        impl $name {
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),*];

            pub(crate) const fn word(self) -> &'static str { match self { $(Self::$variant => $word),* } }
        }
    };
}

words! {
    /// What a request wants.
    Wish {
        Read = "read",
        Append = "append",
        Create = "create",
        Delete = "delete",
        /// `HEAD` of a stream.
        Metadata = "metadata",
        List = "list",
        Subscription = "subscription",
        Call = "call",
        Options = "options",
        /// The page, its files, and whatever is at no URL of ours.
        Other = "other",
    }
}

words! {
    /// Who holds a connection, and in which way records are delivered.
    Way {
        /// HTTP between two requests, or a request that is answered at once.
        Http = "http",
        ShortPoll = "short-poll",
        LongPoll = "long-poll",
        /// A long poll's answer in portions.
        Portions = "portions",
        Sse = "sse",
        WebSocket = "websocket",
    }
}

words! {
    /// Why a reader was sent away.
    Reason {
        Draining = "draining",
        StreamDeleted = "stream-deleted",
        TokenExpires = "token-expires",
        TooSlow = "too-slow",
        StorageFull = "storage-full",
        Overloaded = "overloaded",
        Internal = "internal",
        Other = "other",
    }
}

words! {
    /// How a handshake of TLS ended.
    Handshake {
        Done = "done",
        /// It began as a request without TLS.
        PlainHttp = "plain-http",
        /// Not within its time.
        Late = "late",
        /// The client went, or was cut.
        Gone = "gone",
        /// The client does not trust our certificate, and said so.
        Distrusted = "distrusted",
        /// The two have no version, cipher or protocol in common.
        Unfit = "unfit",
        /// What the client sent is wrong.
        Broken = "broken",
    }
}

impl Wish {
    /// What a request to a URL below the streams wants, or to another one; `path` is the whole of it.
    pub(crate) fn of(method: &Method, path: &str) -> Self {
        let Some(name) = path.strip_prefix("/v1/stream") else {
            return if path == "/v1/call" || path.starts_with("/v1/call/") { Self::Call } else { Self::Other };
        };
        match (name, method) {
            (_, &Method::OPTIONS) => Self::Options,
            ("" | "/", _) => Self::List,
            (name, _) if name.starts_with("/__ds") => Self::Subscription,
            (_, &Method::GET) => Self::Read,
            (_, &Method::POST) => Self::Append,
            (_, &Method::PUT) => Self::Create,
            (_, &Method::DELETE) => Self::Delete,
            (_, &Method::HEAD) => Self::Metadata,
            _ => Self::Other,
        }
    }
}

impl Reason {
    /// By the code of a goodbye.
    pub(crate) fn of(code: &str) -> Self {
        Self::ALL.iter().copied().find(|reason| reason.word() == code).unwrap_or(Self::Other)
    }
}

/// How often, or how much. For one thread to add to.
#[derive(Debug, Default)]
pub(crate) struct Lone(AtomicU64);

impl Lone {
    fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Classes of HTTP statuses, 1xx to 5xx.
pub(crate) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The counts of a shard.
#[derive(Debug)]
pub(crate) struct Tally {
    /// By [`Wish`] and class.
    pub(crate) requests: [[Lone; CLASSES.len()]; Wish::ALL.len()],
    /// By [`Code`].
    pub(crate) refusals: [Lone; Code::ALL.len()],
    pub(crate) appends: Lone,
    pub(crate) append_records: Lone,
    pub(crate) append_bytes: Lone,
    pub(crate) append_micros: Histogram,
    /// By [`Way`].
    pub(crate) delivered: [Delivered; Way::ALL.len()],
    /// By [`Way`]: connections that began, and that ended.
    pub(crate) held: [(Lone, Lone); Way::ALL.len()],
    pub(crate) gaps: Lone,
    /// By [`Reason`].
    pub(crate) goodbyes: [Lone; Reason::ALL.len()],
    pub(crate) stalled: Lone,
    pub(crate) known_polls: Lone,
    /// By [`Handshake`].
    pub(crate) handshakes: [Lone; Handshake::ALL.len()],
}

/// What went out in one way.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    pub(crate) frames: Lone,
    pub(crate) records: Lone,
    pub(crate) bytes: Lone,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            requests: Default::default(),
            refusals: std::array::from_fn(|_| Lone::default()),
            appends: Lone::default(),
            append_records: Lone::default(),
            append_bytes: Lone::default(),
            append_micros: Histogram::new(MICROS),
            delivered: Default::default(),
            held: Default::default(),
            gaps: Lone::default(),
            goodbyes: Default::default(),
            stalled: Lone::default(),
            known_polls: Lone::default(),
            handshakes: Default::default(),
        }
    }
}

impl Tally {
    /// A request got an answer, or a live read began with it.
    pub(crate) fn answered(&self, wish: Wish, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        self.requests[wish as usize][class].add(1);
    }

    pub(crate) fn refused(&self, code: Code) {
        self.refusals[code as usize].add(1);
    }

    /// A poll got the answer that was known already.
    pub(crate) fn known_poll(&self) {
        self.known_polls.add(1);
        self.answered(Wish::Read, StatusCode::NOT_MODIFIED);
    }

    /// An append is durable.
    pub(crate) fn appended(&self, records: u64, bytes: u64, micros: u64) {
        self.appends.add(1);
        self.append_records.add(records);
        self.append_bytes.add(bytes);
        self.append_micros.add(micros);
    }

    /// A frame goes to its reader.
    pub(crate) fn frame(&self, way: Way, frame: &Frame) {
        if frame.gap {
            self.gaps.add(1);
        }
        self.delivered(way, frame.records, frame.bytes.len());
    }

    pub(crate) fn delivered(&self, way: Way, records: usize, bytes: usize) {
        let delivered = &self.delivered[way as usize];
        delivered.frames.add(1);
        delivered.records.add(records as u64);
        delivered.bytes.add(bytes as u64);
    }

    /// A reader was told goodbye.
    pub(crate) fn goodbye(&self, code: &str) {
        self.goodbyes[Reason::of(code) as usize].add(1);
    }

    /// A reader that took nothing for too long was let go.
    pub(crate) fn stalled(&self) {
        self.stalled.add(1);
    }

    pub(crate) fn shook_hands(&self, how: Handshake) {
        self.handshakes[how as usize].add(1);
    }

    pub(crate) fn holds(&self, way: Way) {
        self.held[way as usize].0.add(1);
    }

    pub(crate) fn lets_go(&self, way: Way) {
        self.held[way as usize].1.add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_a_place_in_the_list() {
        assert!(Code::ALL.iter().enumerate().all(|(n, code)| *code as usize == n));
        assert!(Wish::ALL.iter().enumerate().all(|(n, wish)| *wish as usize == n));
        assert!(Way::ALL.iter().enumerate().all(|(n, way)| *way as usize == n));
        assert!(Reason::ALL.iter().enumerate().all(|(n, reason)| *reason as usize == n));
        assert!(Handshake::ALL.iter().enumerate().all(|(n, how)| *how as usize == n));
    }

    #[test]
    fn a_wish_is_told_by_method_and_path() {
        for (method, path, wish) in [
            (Method::GET, "/v1/stream/a", Wish::Read),
            (Method::POST, "/v1/stream/a", Wish::Append),
            (Method::PUT, "/v1/stream/a", Wish::Create),
            (Method::HEAD, "/v1/stream/a", Wish::Metadata),
            (Method::GET, "/v1/stream/", Wish::List),
            (Method::POST, "/v1/stream/__ds/subscriptions/x", Wish::Subscription),
            (Method::OPTIONS, "/v1/stream/a", Wish::Options),
            (Method::POST, "/v1/call/report", Wish::Call),
            (Method::PATCH, "/v1/stream/a", Wish::Other),
            (Method::GET, "/", Wish::Other),
        ] {
            assert_eq!(Wish::of(&method, path), wish, "{method} {path}");
        }
        assert_eq!(Reason::of("storage-full"), Reason::StorageFull);
        assert_eq!(Reason::of("never heard of"), Reason::Other);
    }
}
