//! Traces of appends: a real server, a collector on a loopback port, and what arrives there. A binary of its own, because it alone needs the feature.

mod collector;
#[path = "../it/harness.rs"]
#[expect(dead_code, reason = "the other binary uses all of it")]
mod harness;
mod private;
mod sampled;
mod secured;
mod server;
mod spans;
mod traced;
mod unreachable;
