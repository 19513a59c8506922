//! What a person at a terminal sees while a call runs: that it does, for how long, and how far it is where its records tell.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;

use crate::retry;

/// Steps of the bar: finer than any terminal is wide.
const STEPS: u64 = 10_000;

/// A spinner, or a bar, on standard error; nothing where that is no terminal.
#[derive(Debug)]
pub(super) struct Show {
    is_seen: bool,
    began: Instant,
    /// Of [`STEPS`], where records have told.
    position: Option<u64>,
    /// There while it is drawn.
    bar: Option<ProgressBar>,
}

impl Show {
    pub(super) fn begin() -> Self {
        let mut show = Self { is_seen: std::io::stderr().is_terminal(), ..Self::none() };
        show.hide(false);
        show
    }

    pub(super) fn none() -> Self {
        Self { is_seen: false, began: Instant::now(), position: None, bar: None }
    }

    /// Follows a record that tells how far it is.
    pub(super) fn look_at(&mut self, record: &str) {
        let Some(progress) = Some(record).filter(|_| self.is_seen).and_then(progress) else { return };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is 0 to 1")]
        let position = (progress * 10_000.0) as u64;
        let was_known = self.position.replace(position).is_some();
        let Some(bar) = &self.bar else { return };
        if !was_known {
            bar.set_style(style(BAR));
        }
        bar.set_position(position);
    }

    /// Writes something to the terminal without the bar in its way.
    pub(super) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Out of the way for longer, or back.
    pub(super) fn hide(&mut self, hidden: bool) {
        match &self.bar {
            Some(bar) if hidden => {
                bar.finish_and_clear();
                self.bar = None;
            }
            None if self.is_seen && !hidden => {
                let template = if self.position.is_some() { BAR } else { SPINNER };
                let bar = ProgressBar::new(STEPS).with_style(style(template)).with_elapsed(self.began.elapsed());
                bar.set_position(self.position.unwrap_or_default());
                bar.enable_steady_tick(Duration::from_millis(120));
                self.bar = Some(bar);
            }
            _ => return,
        }
        retry::tell_beside(self.bar.clone());
    }
}

const SPINNER: &str = "{spinner} {elapsed} running; Ctrl-C leaves it running";
const BAR: &str = "{spinner} {elapsed} {bar:40} {percent} %";

/// `{"progress": 0..1}`, whatever else the record has.
fn progress(record: &str) -> Option<f64> {
    #[derive(Deserialize)]
    struct Progress {
        progress: f64,
    }
    // Of an array serde would take the first value for it.
    let object = Some(record.trim_start()).filter(|record| record.starts_with('{'))?;
    let Progress { progress } = serde_json::from_str(object).ok()?;
    (0.0..=1.0).contains(&progress).then_some(progress)
}

fn style(template: &'static str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is a constant")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_part_of_the_whole_is_progress() {
        assert_eq!(progress(r#"{"file":"a","progress":0.25}"#), Some(0.25));
        assert_eq!(progress(r#"{"progress":1}"#), Some(1.0));
        for other in
            [r#"{"progress":1.5}"#, r#"{"progress":-1}"#, r#"{"progress":"half"}"#, r#"{"a":1}"#, "0.5", "[0.5]"]
        {
            assert_eq!(progress(other), None, "{other}");
        }
    }
}
