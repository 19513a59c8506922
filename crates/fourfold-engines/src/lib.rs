//! Where streams are kept. Every engine passes the one contract suite in `tests/it`.
//!
//! - [`embedded`]: on the disk, over fjall
//! - [`memory`]: nothing survives the process; for tests, demos and data that may go
//! - `rules`: what both decide alike: conflicts, expiry, retention; `family`: who needs whose records; `forking`: where a fork begins

pub mod embedded;
mod family;
mod forking;
pub mod memory;
mod rules;

pub use embedded::{Durability, EmbeddedEngine, EmbeddedOptions, OpenFailure};
pub use memory::MemoryEngine;
