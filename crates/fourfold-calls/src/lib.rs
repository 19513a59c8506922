//! Calls: streams that the server fills itself. A client sends a request, the server executes it (an upstream or a program, both only from
//! configuration), and what comes out becomes records of the stream `calls/{id}`, which is closed when the call has ended and tells how.
//!
//! ```text
//! POST /v1/call/NAME ── Calls ── run ── Source ─┬─ http (an upstream)
//!                         │       │             └─ command (a program)
//!                         │       └─ Splitter ── records ── Pen ── Engine
//!                         └─ create ── Engine (a stream with a note of how it came about)
//! ```
//!
//! - `config`: what a `[calls.NAME]` may say; [`limits`]: every maximum
//! - `calls`: all of them, the thread they run on, who may begin one; `states`: how they are shown
//! - `run`: one of them; `pen`: what writes its stream, if there is `room`; `ending`: how it ended
//! - `keys`: which request an idempotency key stands for; `recovery`: what a start finds of earlier calls; `orphans`: programs of theirs that still run
//! - `source`: runs a target: bytes as they come, no faster than they are taken, and how it ended
//! - `portions`: bytes into records, by their content type
//!
//! Promises: a call's stream is durable before its target is asked; a key that is known executes nothing again, over restarts; a call that was
//! running when the server ended is closed by the next start at the latest; nothing is dropped because the engine is slow, the target waits.

mod calls;
pub mod config;
mod ending;
mod keys;
pub mod limits;
mod orphans;
mod pen;
mod portions;
mod recovery;
mod refused;
mod room;
mod run;
mod source;
mod states;

pub use calls::{Begun, Calls, Counts, Wish};
pub use config::{CallConfig, ConfigError, Options, origins};
pub use room::{Room, Taken};
pub use states::{Seen, Wanted};
