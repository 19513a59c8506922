//! Where streams are kept. Every engine passes the one contract suite in `tests/it`.
//!
//! - [`memory`]: nothing survives the process; for tests, demos and data that may go
//! - `rules`: what both decide alike: conflicts, expiry, retention

pub mod memory;
mod rules;

pub use memory::MemoryEngine;
