//! What is counted of wakes, for whoever watches the server.

use fourfold_stream::meter::Count;

use crate::Subscriptions;

/// How many subscriptions and wakes.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// That there are.
    pub subscriptions: u64,
    /// Since the server started, by every outcome that there is.
    pub wakes: Vec<(&'static str, u64)>,
}

/// Wakes by what became of them.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    /// A webhook took it.
    pub(crate) delivered: Count,
    /// A webhook did not, or its event could not be written: it comes again.
    pub(crate) failed: Count,
    /// Its event is in a wake stream.
    pub(crate) announced: Count,
    /// A worker claimed one by itself.
    pub(crate) claimed: Count,
}

impl Subscriptions {
    /// What has been counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let wakes = &self.shared.means.wakes;
        let of = [
            ("delivered", &wakes.delivered),
            ("failed", &wakes.failed),
            ("announced", &wakes.announced),
            ("claimed", &wakes.claimed),
        ];
        Counts {
            subscriptions: self.shared.entries().len() as u64,
            wakes: of.map(|(outcome, count)| (outcome, count.get())).to_vec(),
        }
    }
}
