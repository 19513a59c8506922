//! Calls: streams that the server fills itself. A client sends a request, the server executes it (an upstream or a program, both only from
//! configuration), and what comes out becomes records of the stream `calls/{id}`.
//!
//! ```text
//! POST /v1/call/NAME ── Order ── Source ─┬─ http (an upstream)      pieces ── Splitter ── records ── Engine
//!                                        └─ command (a program)
//! ```
//!
//! - `config`: what a `[calls.NAME]` may say; [`limits`]: every maximum
//! - `source`: runs a target: bytes as they come, no faster than they are taken, and how it ended
//! - `portions`: bytes into records, by their content type

pub mod config;
pub mod limits;
#[allow(dead_code, reason = "the manager of calls, which uses them, comes next")]
mod portions;
#[allow(dead_code, reason = "the manager of calls, which uses them, comes next")]
mod source;

pub use config::{CallConfig, ConfigError, Options};
