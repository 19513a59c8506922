//! The contract of an engine, on every engine; and what the embedded one promises beyond.

mod backup;
mod concurrency;
mod contract;
mod disk;
mod endings;
mod expiry;
mod files;
mod forks;
mod ground;
mod kill;
mod kill_endings;
mod kill_forks;
mod model;
mod producers;
mod restart;
mod waking;
