//! What judges by the limits: counts, takes from buckets, and refuses. Shared by all shards; follows a reload at once.
//!
//! While a kind of limit is not in force, asking costs one load.

use std::{
    net::IpAddr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{
            AtomicU16, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use bytes::Bytes;
use fourfold_protocol::{Code, Refusal};
use http::HeaderMap;
use tokio::time::Instant;

use super::{LimitOptions, PerAddress};
use crate::{
    budget::Budgets,
    caller::{Account, Accounts, Caller, Connected},
    forwarded,
    gcra::{self, Rate},
};

/// The limits in force, and what has been used of them.
#[derive(Debug)]
pub struct Limits {
    start: Instant,
    options: RwLock<Arc<LimitOptions>>,
    in_force: AtomicU16,
    callers: Accounts<IpAddr>,
    tokens: Accounts<u64>,
    pub(crate) budgets: Budgets,
}

/// Bits of [`Limits::in_force`].
const REQUESTS: u16 = 1;
const REQUESTS_LOCAL: u16 = 2;
const APPENDS: u16 = 4;
const APPENDS_LOCAL: u16 = 8;
const REQUESTS_TOKEN: u16 = 16;
const APPENDS_TOKEN: u16 = 32;
const APPENDS_STREAM: u16 = 64;
const BATCHES: u16 = 128;
const CONNECTIONS_TOKEN: u16 = 256;
const BYTES_TOKEN: u16 = 512;

impl Limits {
    pub(crate) fn new(options: LimitOptions) -> Self {
        let limits = Self {
            start: Instant::now(),
            options: RwLock::default(),
            in_force: AtomicU16::new(0),
            callers: Accounts::default(),
            tokens: Accounts::default(),
            budgets: Budgets::default(),
        };
        limits.reload(options);
        limits
    }

    /// Puts other limits in force. Connections stay as they are, also those that would not be let in any more, and so does who is known as a proxy
    /// on them; what was used of a rate stays used.
    pub fn reload(&self, options: LimitOptions) {
        fn bits<T: Copy>(limit: PerAddress<T>, all: u16, local: u16) -> u16 {
            limit.of(false).map_or(0, |_| all) | limit.of(true).map_or(0, |_| local)
        }
        let bit = |is: bool, bit: u16| if is { bit } else { 0 };
        let in_force = bits(options.requests_per_address, REQUESTS, REQUESTS_LOCAL)
            | bits(options.appends_per_address, APPENDS, APPENDS_LOCAL)
            | bit(options.requests_per_token.is_some(), REQUESTS_TOKEN)
            | bit(options.appends_per_token.is_some(), APPENDS_TOKEN)
            | bit(options.appends_per_stream.is_some(), APPENDS_STREAM)
            | bit(options.connections_per_token.is_some(), CONNECTIONS_TOKEN)
            | bit(options.bytes_per_token.is_some(), BYTES_TOKEN)
            | bit(options.record_bytes_max.or(options.batch_records_max).is_some(), BATCHES);
        self.budgets.bodies.set_max(options.bodies_bytes_max);
        self.budgets.unsent.set_max(options.unsent_bytes_max);
        self.budgets.set_stall_wait(options.stall_wait_max);
        *self.options.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(options);
        self.in_force.store(in_force, SeqCst);
    }

    pub(crate) fn options(&self) -> Arc<LimitOptions> {
        Arc::clone(&self.options.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).expect("584 years have not passed")
    }

    /// Who connects from this address.
    pub(crate) fn peer(&self, address: IpAddr) -> Arc<Caller> {
        let address = address.to_canonical();
        if self.options().trusted_proxies.iter().any(|network| network.contains(address)) {
            return Accounts::of_proxy(address);
        }
        self.callers.of_address(address, self.now())
    }

    /// Counts a connection in. Errors: the address has all that it may have. A proxy may have any number: whom it asks for is counted by what they
    /// do.
    pub(crate) fn connect(&self, caller: &Arc<Caller>) -> Result<Connected, Refusal> {
        let max = self.options().connections_per_address.of(caller.is_local()).filter(|_| !caller.is_proxy());
        caller.connect(max).ok_or_else(|| too_many_connections("connections-per-address", max))
    }

    /// Who asks: whoever is connected, or for whom it asks if it is a proxy that may say so.
    pub(crate) fn caller_of(&self, headers: &HeaderMap, peer: &Arc<Caller>) -> Arc<Caller> {
        let (true, Some(address)) = (peer.is_proxy(), peer.address()) else { return Arc::clone(peer) };
        let options = self.options();
        let client = forwarded::client(headers, options.forwarded_header, &options.trusted_proxies);
        self.callers.of_address(client.unwrap_or(address), self.now())
    }

    /// Counts a request. Errors: there were too many; when to come back.
    pub(crate) fn request(&self, caller: &Caller) -> Result<(), Refusal> {
        let (is_local, in_force) = (caller.is_local(), self.in_force.load(Relaxed));
        if in_force & if is_local { REQUESTS_LOCAL } else { REQUESTS } == 0 {
            return Ok(());
        }
        self.take("requests-per-address", &caller.requests, self.options().requests_per_address.of(is_local))
    }

    /// Counts an append, before anything of it is read. Errors as [`request`](Self::request).
    pub(crate) fn append(&self, caller: &Caller) -> Result<(), Refusal> {
        let (is_local, in_force) = (caller.is_local(), self.in_force.load(Relaxed));
        if in_force & if is_local { APPENDS_LOCAL } else { APPENDS } == 0 {
            return Ok(());
        }
        self.take("appends-per-address", &caller.appends, self.options().appends_per_address.of(is_local))
    }

    /// Counts a request with a token; `key` is whom it was given to. Errors as [`request`](Self::request).
    pub(crate) fn token_request(&self, key: Option<u64>) -> Result<(), Refusal> {
        let Some(account) = self.token(key, REQUESTS_TOKEN) else { return Ok(()) };
        self.take("requests-per-token", &account.requests, self.options().requests_per_token)
    }

    /// Counts an append with a token. Errors as [`request`](Self::request).
    pub(crate) fn token_append(&self, key: Option<u64>) -> Result<(), Refusal> {
        let Some(account) = self.token(key, APPENDS_TOKEN) else { return Ok(()) };
        self.take("appends-per-token", &account.appends, self.options().appends_per_token)
    }

    /// Counts a read that stays open, with a token. `None` where it is not limited. Errors: whom the token was given to has as many as they may have.
    pub(crate) fn token_connect(&self, key: Option<u64>) -> Result<Option<Connected>, Refusal> {
        let Some(account) = self.token(key, CONNECTIONS_TOKEN) else { return Ok(None) };
        let max = self.options().connections_per_token;
        account.connect(max).map(Some).ok_or_else(|| too_many_connections("connections-per-token", max))
    }

    /// Whether what is in a subject's streams is limited.
    pub(crate) fn has_bytes_per_token(&self) -> bool {
        self.in_force.load(Relaxed) & BYTES_TOKEN != 0
    }

    fn token(&self, key: Option<u64>, bit: u16) -> Option<Arc<Account>> {
        let key = key.filter(|_| self.in_force.load(Relaxed) & bit != 0)?;
        Some(self.tokens.of_token(key, self.now()))
    }

    /// Whether a request must be read to know whether it is one too many.
    pub(crate) fn must_be_read(&self, caller: &Caller) -> bool {
        let counted = REQUESTS_TOKEN | if caller.is_proxy() { REQUESTS | REQUESTS_LOCAL } else { 0 };
        self.in_force.load(Relaxed) & counted != 0
    }

    /// Judges what is appended at once to a stream, and counts it by the stream's own bucket.
    ///
    /// Errors: a record that is too large, too many of them, or too many appends.
    pub(crate) fn batch(&self, stream: &AtomicU64, records: &[Bytes]) -> Result<(), Refusal> {
        self.sizes(records)?;
        if self.in_force.load(Relaxed) & APPENDS_STREAM == 0 {
            return Ok(());
        }
        self.take("appends-per-stream", stream, self.options().appends_per_stream)
    }

    /// Judges records that come at once. Errors: one is too large, or they are too many.
    pub(crate) fn sizes(&self, records: &[Bytes]) -> Result<(), Refusal> {
        if self.in_force.load(Relaxed) & BATCHES == 0 {
            return Ok(());
        }
        let options = self.options();
        if let Some(max) = options.batch_records_max.filter(|max| records.len() > *max) {
            let detail = format!("{} records come at once, at most {max} are taken: append fewer", records.len());
            return Err(Refusal::new(Code::BatchTooLarge, detail).with("limit", "batch-max").with("max", max));
        }
        let largest = records.iter().map(Bytes::len).max().unwrap_or(0);
        if let Some(max) = options.record_bytes_max.filter(|max| largest > *max) {
            let detail = format!("a record has {largest} bytes, at most {max} are taken: cut it");
            return Err(Refusal::new(Code::RecordTooLarge, detail).with("limit", "record-max").with("max", max));
        }
        Ok(())
    }

    fn take(&self, limit: &'static str, bucket: &AtomicU64, rate: Option<Rate>) -> Result<(), Refusal> {
        let Some(rate) = rate else { return Ok(()) };
        gcra::take(bucket, rate, self.now()).map_err(|wait| {
            let after = whole_seconds(wait);
            Refusal::new(Code::TooManyRequests, format!("{limit} is {rate}: nothing was done; come back in {after} s"))
                .with("limit", limit)
                .with("max", rate.to_string())
                .with("retryAfter", after)
        })
    }
}

fn too_many_connections(limit: &'static str, max: Option<u32>) -> Refusal {
    let max = max.unwrap_or_default();
    Refusal::new(Code::TooManyConnections, format!("{limit} is {max}: close one, or come back later"))
        .with("limit", limit)
        .with("max", max)
        .with("retryAfter", whole_seconds(CONNECTION_AGAIN))
}

/// A connection ends when its client likes; so long is a guess.
const CONNECTION_AGAIN: Duration = Duration::from_secs(4);

/// Rounded up, and spread a little, so that those who were refused together do not come back together.
fn whole_seconds(wait: Duration) -> u64 {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    seconds + fastrand::u64(0..=seconds.div_ceil(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whom_a_token_was_given_to_has_a_rate_wherever_it_comes_from() {
        let rate = Some(Rate::per_second(1, 2));
        let options = LimitOptions { requests_per_token: rate, appends_per_token: rate, ..LimitOptions::default() };
        let limits = Limits::new(options);
        for count in [Limits::token_request, Limits::token_append] {
            assert_eq!((0..10).filter(|_| count(&limits, Some(7)).is_ok()).count(), 2);
            assert_eq!((0..10).filter(|_| count(&limits, Some(8)).is_ok()).count(), 2);
            assert!((0..10).all(|_| count(&limits, None).is_ok()));
        }
        let refusal = limits.token_append(Some(7)).unwrap_err();
        assert_eq!((refusal.code, refusal.members[0].1.as_str()), (Code::TooManyRequests, Some("appends-per-token")));
        limits.reload(LimitOptions::default());
        assert!((0..10).all(|_| limits.token_request(Some(7)).is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_says_when_there_is_one_again() {
        let limit = PerAddress::set(Some(Rate::parse("1/m burst 1").unwrap()));
        let limits = Limits::new(LimitOptions { requests_per_address: limit, ..LimitOptions::default() });
        let caller = limits.peer("1.2.3.4".parse().unwrap());
        limits.request(&caller).unwrap();
        let refusal = limits.request(&caller).unwrap_err();
        let after =
            refusal.members.iter().find(|(name, _)| *name == "retryAfter").and_then(|(_, value)| value.as_u64());
        assert!((60..=75).contains(&after.unwrap()), "{refusal:?}");
        tokio::time::advance(Duration::from_secs(60)).await;
        limits.request(&caller).unwrap();
    }
}
