//! What systemd is told, if it has started this process (`Type=notify` or `notify-reload`). Without it every word goes nowhere.

use std::time::Duration;

use fourfold_server::Liveness;
use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

/// Connections are accepted, or the configuration was read again.
pub(crate) fn ready() {
    say(&[NotifyState::Ready]);
}

/// The configuration is being read again; [`ready`] follows.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => say(&[NotifyState::Reloading, now]),
        Err(_) => say(&[NotifyState::Reloading]),
    }
}

/// The server drains and then ends.
pub(crate) fn stopping() {
    say(&[NotifyState::Stopping]);
}

/// Keeps the watchdog quiet for as long as every shard takes its turns. Completes at once if nobody watches.
pub(crate) async fn watch(liveness: Liveness) {
    let Some(within) = sd_notify::watchdog_enabled() else { return };
    let mut tick = interval((within / 2).max(Duration::from_millis(1)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if liveness.is_alive().await {
            say(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("a shard takes no turn: the watchdog is not told");
        }
    }
}

fn say(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the supervisor could not be told");
    }
}
