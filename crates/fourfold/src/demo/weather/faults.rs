//! Which faults each visitor has, and how many connections.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Visitors who have faults or connections. Beyond it the one who has not been heard of for the longest time is forgotten.
const VISITORS_MAX: usize = 256;

/// Connections of one visitor: a browser opens six for polls, and a WebSocket for each stream.
const CONNECTIONS_MAX: usize = 64;

/// The longest token, in bytes.
const TOKEN_BYTES_MAX: usize = 64;

/// The longest delay of a round trip, in milliseconds.
const LATENCY_MS_MAX: u32 = 5_000;

/// The shortest life of a connection that is cut, in milliseconds: below it nothing would come through.
const CUT_EVERY_MS_MIN: u32 = 500;

/// What is wrong with a visitor's network. None of it: fair weather.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(in crate::demo) struct Faults {
    /// Upgrades are refused, and WebSockets that are open are cut.
    pub(super) block_websocket: bool,
    /// Event streams are held back until there is a lot of them, as by a proxy that buffers.
    pub(super) buffer_sse: bool,
    /// No connection lives longer; 0: as long as it likes.
    pub(super) cut_every_ms: u32,
    /// Added to each round trip.
    pub(super) latency_ms: u32,
    /// Nothing comes through.
    pub(super) offline: bool,
}

impl Faults {
    /// Within the bounds.
    pub(in crate::demo) fn is_valid(&self) -> bool {
        self.latency_ms <= LATENCY_MS_MAX && (self.cut_every_ms == 0 || self.cut_every_ms >= CUT_EVERY_MS_MIN)
    }

    pub(super) fn cut_every(&self) -> Duration {
        Duration::from_millis(self.cut_every_ms.into())
    }

    /// Half of it each way.
    pub(super) fn delay(&self) -> Duration {
        Duration::from_millis(self.latency_ms.into()) / 2
    }
}

/// All visitors.
#[derive(Debug, Default)]
pub(in crate::demo) struct Visitors(Mutex<HashMap<String, Visitor>>);

/// All places are taken by visitors who have connections.
#[derive(Debug)]
pub(in crate::demo) struct Full;

#[derive(Debug)]
struct Visitor {
    weather: watch::Sender<Faults>,
    connections: usize,
    heard_of: Instant,
}

/// One connection of a visitor.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) weather: watch::Receiver<Faults>,
    visitors: Arc<Visitors>,
    token: String,
}

impl Visitors {
    /// Letters, digits, `-` and `_`.
    pub(in crate::demo) fn is_token(token: &str) -> bool {
        (1..=TOKEN_BYTES_MAX).contains(&token.len())
            && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    }

    /// Changes a visitor's weather, also for connections under way.
    pub(in crate::demo) fn set(&self, token: &str, faults: Faults) -> Result<(), Full> {
        let mut all = self.all();
        let visitor = seated(&mut all, token).ok_or(Full)?;
        visitor.weather.send_replace(faults);
        if faults == Faults::default() && visitor.connections == 0 {
            all.remove(token);
        }
        Ok(())
    }

    pub(in crate::demo) fn get(&self, token: &str) -> Faults {
        self.all().get(token).map_or_else(Faults::default, |visitor| *visitor.weather.borrow())
    }

    /// A seat for a connection, unless there are too many.
    pub(super) fn enter(self: &Arc<Self>, token: &str) -> Option<Seat> {
        let mut all = self.all();
        let visitor = seated(&mut all, token)?;
        if visitor.connections >= CONNECTIONS_MAX {
            return None;
        }
        visitor.connections += 1;
        Some(Seat { weather: visitor.weather.subscribe(), visitors: Arc::clone(self), token: token.to_owned() })
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Visitor>> {
        self.0.lock().expect("nobody panics while it holds the visitors")
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut all = self.visitors.all();
        let Some(visitor) = all.get_mut(&self.token) else { return };
        visitor.connections -= 1;
        if visitor.connections == 0 && *visitor.weather.borrow() == Faults::default() {
            all.remove(&self.token);
        }
    }
}

/// The visitor, a new one if there is room.
fn seated<'a>(all: &'a mut HashMap<String, Visitor>, token: &str) -> Option<&'a mut Visitor> {
    if !all.contains_key(token) && all.len() >= VISITORS_MAX {
        let idle = all.iter().filter(|(_, visitor)| visitor.connections == 0);
        let longest = idle.min_by_key(|(_, visitor)| visitor.heard_of).map(|(token, _)| token.clone())?;
        all.remove(&longest);
    }
    let visitor = all.entry(token.to_owned()).or_insert_with(|| Visitor {
        weather: watch::Sender::new(Faults::default()),
        connections: 0,
        heard_of: Instant::now(),
    });
    visitor.heard_of = Instant::now();
    Some(visitor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFLINE: Faults =
        Faults { block_websocket: false, buffer_sse: false, cut_every_ms: 0, latency_ms: 0, offline: true };

    #[test]
    fn whoever_was_not_heard_of_for_long_is_forgotten_first_and_nobody_who_is_connected() {
        let visitors = Arc::new(Visitors::default());
        visitors.set("connected", OFFLINE).unwrap();
        let _seat = visitors.enter("connected").unwrap();
        for n in 0..VISITORS_MAX {
            visitors.set(&format!("visitor-{n}"), OFFLINE).unwrap();
        }
        assert_eq!(visitors.all().len(), VISITORS_MAX);
        assert_eq!(visitors.get("connected"), OFFLINE);
        assert_eq!(visitors.get("visitor-0"), Faults::default());
        assert_eq!(visitors.get("visitor-1"), OFFLINE);
    }

    #[test]
    fn fair_weather_without_connections_takes_no_place() {
        let visitors = Arc::new(Visitors::default());
        drop(visitors.enter("a").unwrap());
        visitors.set("b", OFFLINE).unwrap();
        visitors.set("b", Faults::default()).unwrap();
        assert!(visitors.all().is_empty());
    }

    #[test]
    fn one_visitor_has_so_many_connections_and_no_more() {
        let visitors = Arc::new(Visitors::default());
        let seats: Vec<Seat> = (0..CONNECTIONS_MAX).map(|_| visitors.enter("a").unwrap()).collect();
        assert!(visitors.enter("a").is_none());
        assert!(visitors.enter("b").is_some());
        drop(seats);
        assert!(visitors.enter("a").is_some());
    }
}
