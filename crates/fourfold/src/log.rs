//! The log: where it goes, in which form, and that it cannot fill a disk.
//!
//! Whoever can make the server write a line could make it write millions. So each place in the code writes at most [`LINES_A_SECOND_MAX`] lines a second, and
//! then one that says how many were left out.

use std::{
    collections::HashMap,
    io::{self, IsTerminal},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::{Event, Metadata, callsite::Identifier};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, fmt,
    layer::{Context, Filter, Layered, SubscriberExt},
    reload,
    util::SubscriberInitExt,
};

/// How many lines a second one place in the code writes: enough to see what happens, 15 MB an hour at most.
const LINES_A_SECOND_MAX: u32 = 20;

/// In which form lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// An object a line, for collectors.
    Json,
}

/// The log of this process.
#[derive(Clone)]
pub(crate) struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    bounds: Arc<Bounds>,
}

type Filtering = Layered<reload::Layer<EnvFilter, Registry>, Registry>;

/// Begins the log, on standard error. Once a process.
pub(crate) fn begin(filter: &str, format: Format) -> Log {
    let (filter, handle) = reload::Layer::new(EnvFilter::new(filter));
    let bounds = Arc::<Bounds>::default();
    let bounded = Bounded(Arc::clone(&bounds));
    let lines = fmt::layer::<Filtering>().with_writer(io::stderr);
    let lines: Box<dyn Layer<Filtering> + Send + Sync> = match format {
        Format::Text => lines.with_ansi(io::stderr().is_terminal()).with_filter(bounded).boxed(),
        Format::Json => lines.json().flatten_event(true).with_filter(bounded).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    Log { filter: handle, bounds }
}

impl Log {
    /// What is logged from now on; the filter is known to be one.
    pub(crate) fn set_filter(&self, filter: &str) {
        // It fails only if the log has ended.
        let _ = self.filter.reload(EnvFilter::new(filter));
    }

    /// Says from time to time how many lines were left out. Never completes.
    pub(crate) async fn tell_left_out(&self) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for (place, lines) in self.bounds.left_out() {
                tracing::warn!(lines, place, "lines were left out, of which there were too many");
            }
        }
    }
}

/// How much each place has written in its present second. As many entries as there are places in the code.
#[derive(Default)]
struct Bounds {
    places: Mutex<HashMap<Identifier, Second>>,
}

struct Second {
    place: String,
    since: Instant,
    lines: u32,
    left_out: u64,
}

impl Bounds {
    /// Whether one more line of this place is written.
    fn admits(&self, line: &Metadata<'_>, now: Instant) -> bool {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let second = places.entry(line.callsite()).or_insert_with(|| Second {
            place: format!("{}:{}", line.target(), line.line().unwrap_or(0)),
            since: now,
            lines: 0,
            left_out: 0,
        });
        if now.duration_since(second.since) >= Duration::from_secs(1) {
            (second.since, second.lines) = (now, 0);
        }
        if second.lines == LINES_A_SECOND_MAX {
            second.left_out += 1;
            return false;
        }
        second.lines += 1;
        true
    }

    /// What was left out since it was told last.
    fn left_out(&self) -> Vec<(String, u64)> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let some = places.values_mut().filter(|second| second.left_out > 0);
        some.map(|second| (second.place.clone(), std::mem::take(&mut second.left_out))).collect()
    }
}

struct Bounded(Arc<Bounds>);

impl<S> Filter<S> for Bounded {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        self.0.admits(event.metadata(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_writes_too_much_is_bounded_and_what_was_left_out_is_told_once() {
        let bounds = Arc::<Bounds>::default();
        let subscriber =
            Registry::default().with(fmt::layer().with_writer(io::sink).with_filter(Bounded(Arc::clone(&bounds))));
        tracing::subscriber::with_default(subscriber, || {
            for n in 0..1_000 {
                tracing::info!(n, "the same place");
            }
            tracing::info!("another place");
        });
        let left_out = bounds.left_out();
        assert_eq!(left_out.len(), 1, "{left_out:?}");
        // The second may have turned in between.
        assert!((1_000 - 3 * u64::from(LINES_A_SECOND_MAX)..1_000).contains(&left_out[0].1), "{left_out:?}");
        assert!(bounds.left_out().is_empty());
    }
}
