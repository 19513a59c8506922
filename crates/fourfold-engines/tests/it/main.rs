//! The contract of an engine, on every engine; and what the embedded one promises beyond.

mod concurrency;
mod contract;
mod disk;
mod expiry;
mod files;
mod ground;
mod kill;
mod model;
mod producers;
mod restart;
mod waking;
