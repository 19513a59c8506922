//! The limits that can be configured, checked.

use std::time::Duration;

use super::{
    APPENDS_PER_ADDRESS_DEFAULT, APPENDS_PER_STREAM_DEFAULT, APPENDS_PER_TOKEN_DEFAULT, BATCH_RECORDS_MAX_DEFAULT,
    BODIES_BYTES_MAX_DEFAULT, BYTES_PER_TOKEN_DEFAULT, CONNECTIONS_MAX_DEFAULT, CONNECTIONS_PER_ADDRESS_DEFAULT,
    CONNECTIONS_PER_TOKEN_DEFAULT, RECORD_BYTES_MAX_DEFAULT, REQUESTS_PER_ADDRESS_DEFAULT, REQUESTS_PER_TOKEN_DEFAULT,
    STALL_WAIT_DEFAULT, STORAGE_BYTES_MAX_DEFAULT, STREAMS_MAX_DEFAULT, STREAMS_PER_TOKEN_DEFAULT,
    UNSENT_BYTES_TOTAL_MAX_DEFAULT,
};
use crate::{forwarded::ForwardedHeader, gcra::Rate, network::Network};

/// Numbers and rates. `None` is no limit.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitOptions {
    /// Connections at once; beyond it they are told to come back later.
    pub connections_max: usize,
    /// Connections of one address at once.
    pub connections_per_address: PerAddress<u32>,
    /// Reads that stay open of one token's subject at once.
    pub connections_per_token: Option<u32>,
    /// Requests of one address.
    pub requests_per_address: PerAddress<Rate>,
    /// Appends of one address.
    pub appends_per_address: PerAddress<Rate>,
    /// Requests with one token.
    pub requests_per_token: Option<Rate>,
    /// Appends with one token.
    pub appends_per_token: Option<Rate>,
    /// Appends to one stream, whoever sends them.
    pub appends_per_stream: Option<Rate>,
    /// Streams in all.
    pub streams_max: Option<u64>,
    /// Streams created with tokens of one subject.
    pub streams_per_token: Option<u64>,
    /// Records in the streams created with tokens of one subject, in bytes.
    pub bytes_per_token: Option<u64>,
    /// What all streams take on the disk, in bytes.
    pub storage_bytes_max: Option<u64>,
    /// One record, in bytes.
    pub record_bytes_max: Option<usize>,
    /// Records of one append.
    pub batch_records_max: Option<usize>,
    /// Bodies that have come in part, all together, in bytes.
    pub bodies_bytes_max: usize,
    /// What is held for stalled readers, all together, in bytes.
    pub unsent_bytes_max: usize,
    /// How long a reader may take no byte.
    pub stall_wait_max: Duration,
    /// Proxies that may say for whom they ask.
    pub trusted_proxies: Vec<Network>,
    /// In which header.
    pub forwarded_header: ForwardedHeader,
    /// Whether trusted proxies begin a connection with a PROXY header.
    pub proxy_protocol: bool,
}

/// A limit for each address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerAddress<T> {
    /// `None`: there is none.
    pub max: Option<T>,
    /// Also for this machine itself: a default is not, since a load test or a backend beside the server would only be surprised by it.
    pub also_local: bool,
}

impl<T: Copy> PerAddress<T> {
    /// A default.
    pub const fn default_of(max: T) -> Self {
        Self { max: Some(max), also_local: false }
    }

    /// As somebody has set it.
    pub const fn set(max: Option<T>) -> Self {
        Self { max, also_local: true }
    }

    /// What holds for an address that is this machine's own, or is not.
    pub(crate) fn of(self, is_local: bool) -> Option<T> {
        self.max.filter(|_| self.also_local || !is_local)
    }
}

impl Default for LimitOptions {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX_DEFAULT,
            connections_per_address: PerAddress::default_of(CONNECTIONS_PER_ADDRESS_DEFAULT),
            connections_per_token: CONNECTIONS_PER_TOKEN_DEFAULT,
            requests_per_address: PerAddress::default_of(REQUESTS_PER_ADDRESS_DEFAULT),
            appends_per_address: PerAddress::default_of(APPENDS_PER_ADDRESS_DEFAULT),
            requests_per_token: REQUESTS_PER_TOKEN_DEFAULT,
            appends_per_token: APPENDS_PER_TOKEN_DEFAULT,
            appends_per_stream: APPENDS_PER_STREAM_DEFAULT,
            streams_max: STREAMS_MAX_DEFAULT,
            streams_per_token: STREAMS_PER_TOKEN_DEFAULT,
            bytes_per_token: BYTES_PER_TOKEN_DEFAULT,
            storage_bytes_max: STORAGE_BYTES_MAX_DEFAULT,
            record_bytes_max: RECORD_BYTES_MAX_DEFAULT,
            batch_records_max: BATCH_RECORDS_MAX_DEFAULT,
            bodies_bytes_max: BODIES_BYTES_MAX_DEFAULT,
            unsent_bytes_max: UNSENT_BYTES_TOTAL_MAX_DEFAULT,
            stall_wait_max: STALL_WAIT_DEFAULT,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            proxy_protocol: false,
        }
    }
}
