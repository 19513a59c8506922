//! Subscriptions: durable cursors that wake workers, by webhook or by pull-wake. Spec: "Reserved Subscription APIs",
//! "Subscription Delivery".
//!
//! ```text
//! Stream::advance ── Watch ── Subscriptions ── Entry (one each) ─┬─ delivery ── Courier ── webhook
//!                                                │               └─ wake stream
//!  control (PUT, claim, ack, …) ─────────────────┴─ Journal ── Engine (internal streams)
//! ```
//!
//! - `control`: the requests below `__ds`, without HTTP
//! - `subscriptions`: all of them, and the thread they run on
//! - `entry`, `delivery`, `lease`: one of them: what is due, webhooks, what workers ask for
//! - `state`: what a subscription is and how it changes, pure; `journal`: where that is kept
//! - `courier`, `target`: HTTP to a webhook, and where that may point
//! - `keys`: signatures and tokens; [`limits`]: every maximum
//!
//! Promises: a record that was acknowledged wakes whoever follows its stream, over restarts; a cursor moves only by what was acked under the present
//! wake; a stale worker moves nothing. Delivery is at least once.

mod control;
mod counts;
mod courier;
mod delivery;
mod entry;
mod journal;
mod keys;
mod lease;
pub mod limits;
mod refused;
mod state;
mod subscriptions;
mod target;

pub use control::{ControlAnswer, ControlRequest, Door, door, methods};
pub use counts::Counts;
pub use subscriptions::{Options, Subscriptions};
