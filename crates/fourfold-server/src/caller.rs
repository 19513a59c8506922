//! Who is at the other end: the account of one address.
//!
//! An IPv4 address is one caller, and so is an IPv6 /64, which is what one subscriber line is given. An account is kept while anybody holds it and
//! while there is something to remember (a bucket that is not full), and forgotten behind that. There are never more than [`CALLERS_MAX`]: while
//! so many are in use at once, whoever comes new shares one account with all others who come new.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{gcra, limits::CALLERS_MAX};

/// What is counted of one address or one token.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) connections: AtomicU32,
    pub(crate) requests: AtomicU64,
    pub(crate) appends: AtomicU64,
    kind: Kind,
}

/// Whose account it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Address(IpAddr),
    /// A proxy that may say for whom it asks.
    Proxy(IpAddr),
    Token,
    /// Of all who came when there was no room.
    Overflow,
}

/// The account of an address.
pub(crate) type Caller = Account;

impl Account {
    fn new(kind: Kind) -> Arc<Self> {
        let (connections, requests, appends) = (AtomicU32::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { connections, requests, appends, kind })
    }

    /// The address; of IPv6 the first of its /64. `None` for those who share an account.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self.kind {
            Kind::Address(address) | Kind::Proxy(address) => Some(address),
            Kind::Token | Kind::Overflow => None,
        }
    }

    /// Whether it may say for whom it asks.
    pub(crate) fn is_proxy(&self) -> bool {
        matches!(self.kind, Kind::Proxy(_))
    }

    /// Whether it is this machine.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self.kind, Kind::Address(address) if address.is_loopback())
    }

    /// Counts a connection in, unless there are `max` already.
    pub(crate) fn connect(self: &Arc<Self>, max: Option<u32>) -> Option<Connected> {
        let taken = self.connections.fetch_add(1, Relaxed);
        let connected = Connected(Arc::clone(self)); // An unfit one gives itself back.
        max.is_none_or(|max| taken < max).then_some(connected)
    }

    fn is_idle(&self, now: u64) -> bool {
        gcra::is_full(&self.requests, now) && gcra::is_full(&self.appends, now)
    }
}

/// A connection that is counted.
#[derive(Debug)]
pub(crate) struct Connected(Arc<Account>);

impl Connected {
    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.0
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

/// All accounts of one kind.
#[derive(Debug)]
pub(crate) struct Accounts<K> {
    known: Mutex<Known<K>>,
    overflow: Arc<Account>,
    max: usize,
}

#[derive(Debug)]
struct Known<K> {
    by_key: HashMap<K, Arc<Account>, foldhash::fast::RandomState>,
    /// So many may be there before it is looked which can be forgotten.
    room: usize,
    /// Not before, in nanoseconds.
    look_at: u64,
}

/// With fewer it is not looked which can be forgotten.
const ROOM_MIN: usize = 1_024;

/// While all accounts are in use it is looked no more often: a look at all of them takes about a millisecond.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl<K: Eq + Hash + Copy> Default for Accounts<K> {
    fn default() -> Self {
        Self::bounded(CALLERS_MAX)
    }
}

impl<K: Eq + Hash + Copy> Accounts<K> {
    fn bounded(max: usize) -> Self {
        let known = Known { by_key: HashMap::default(), room: max.min(ROOM_MIN), look_at: 0 };
        Self { known: Mutex::new(known), overflow: Account::new(Kind::Overflow), max }
    }

    fn of(&self, key: K, kind: Kind, now: u64) -> Arc<Account> {
        let mut known = self.known();
        if let Some(account) = known.by_key.get(&key) {
            return Arc::clone(account);
        }
        if known.by_key.len() >= known.room && now >= known.look_at {
            // Nobody can take an account while we hold the map, so one that only the map holds has no connection.
            known.by_key.retain(|_, account| Arc::strong_count(account) > 1 || !account.is_idle(now));
            let room = known.by_key.len().saturating_mul(2).clamp(self.max.min(ROOM_MIN), self.max);
            known.by_key.shrink_to(room);
            known.room = room;
            known.look_at = now + u64::try_from(LOOK_EVERY.as_nanos()).expect("a second is few nanoseconds");
        }
        if known.by_key.len() >= self.max {
            return Arc::clone(&self.overflow);
        }
        let account = Account::new(kind);
        known.by_key.insert(key, Arc::clone(&account));
        account
    }

    fn known(&self) -> MutexGuard<'_, Known<K>> {
        self.known.lock().expect("no code panics while it holds the accounts")
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.known().by_key.len()
    }
}

impl Accounts<IpAddr> {
    /// The account of an address.
    pub(crate) fn of_address(&self, address: IpAddr, now: u64) -> Arc<Caller> {
        let network = network_of(address);
        self.of(network, Kind::Address(network), now)
    }

    /// That of a proxy: of its very address, since its neighbours are not trusted.
    pub(crate) fn of_proxy(address: IpAddr) -> Arc<Caller> {
        Account::new(Kind::Proxy(address))
    }
}

impl Accounts<u64> {
    /// The account of a token, by what identifies whom it was given to.
    pub(crate) fn of_token(&self, key: u64, now: u64) -> Arc<Account> {
        self.of(key, Kind::Token, now)
    }
}

/// What one caller is given: an IPv4 address, an IPv6 /64.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) if address.is_loopback() => IpAddr::V6(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gcra::Rate;

    fn numbered(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn an_address_and_a_slash_64_have_one_account() {
        let callers = Accounts::<IpAddr>::default();
        let of = |text: &str| callers.of_address(text.parse().unwrap(), 0);
        for (one, other, same) in [
            ("1.2.3.4", "1.2.3.4", true),
            ("1.2.3.4", "1.2.3.5", false),
            ("1.2.3.4", "::ffff:1.2.3.4", true),
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            assert_eq!(Arc::ptr_eq(&of(one), &of(other)), same, "{one} {other}");
        }
        assert!(of("::1").is_local() && of("127.9.9.9").is_local() && !of("::2").is_local());
    }

    #[test]
    fn who_is_here_is_remembered_and_who_has_gone_is_forgotten() {
        let callers = Accounts::<IpAddr>::bounded(4_096);
        let here: Vec<_> = (0..100).map(|n| callers.of_address(numbered(n), 0).connect(None).unwrap()).collect();
        let rate = Rate::per_second(1, 1);
        gcra::take(&callers.of_address(numbered(100), 0).requests, rate, u64::MAX / 2).unwrap();
        for n in 1_000..100_000 {
            callers.of_address(numbered(n), u64::from(n) * 10_000_000);
            assert!(callers.count() <= 4_096);
        }
        assert!((101..4_096).contains(&callers.count()), "{}", callers.count());
        for (n, connected) in (0..).zip(&here) {
            assert!(Arc::ptr_eq(connected.account(), &callers.of_address(numbered(n), 0)));
        }
        assert!(!gcra::is_full(&callers.of_address(numbered(100), 0).requests, u64::MAX / 2), "still not full");
    }

    #[test]
    fn while_all_are_in_use_those_who_come_new_share_one_and_are_bounded_by_it() {
        let callers = Accounts::<IpAddr>::bounded(10);
        let here: Vec<_> = (0..10).map(|n| callers.of_address(numbered(n), 0).connect(Some(1)).unwrap()).collect();
        let new = callers.of_address(numbered(11), 0);
        assert!(Arc::ptr_eq(&new, &callers.of_address(numbered(12), 1)) && new.address().is_none());
        let _first = new.connect(Some(1)).unwrap();
        assert!(callers.of_address(numbered(13), 2).connect(Some(1)).is_none());
        drop(here);
        let later = u64::try_from(LOOK_EVERY.as_nanos()).unwrap();
        assert_eq!(callers.of_address(numbered(11), later).address(), Some(numbered(11)));
    }

    #[test]
    fn a_connection_that_was_refused_is_not_counted() {
        let caller = Accounts::<IpAddr>::default().of_address(numbered(1), 0);
        let first = caller.connect(Some(1)).unwrap();
        assert!(caller.connect(Some(1)).is_none());
        assert_eq!(caller.connections.load(Relaxed), 1);
        drop(first);
        assert!(caller.connect(Some(1)).is_some());
    }
}
