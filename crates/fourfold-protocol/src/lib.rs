//! The words of the wire: pure, no I/O, no clock.
//!
//! - [`name`]: stream names, checked once at the edge
//! - [`offset`]: sortable tokens for places in a stream
//! - [`record`]: records, and how a body becomes records
//! - [`pattern`]: `*` and `**` over stream names
//! - [`portion`]: what a cursor reads at one go
//! - [`message`]: the JSON message of WebSocket and NDJSON, and what a WebSocket client may send
//! - [`sse`]: the event stream that an `EventSource` reads
//! - [`refusal`]: every error that a client can see
//! - [`websocket`]: handshake, frames and compression of RFC 6455 and 7692

// The hostile client of the tests is compiled in here, too, and calls this crate by its name.
#[cfg(any(test, fuzzing))]
extern crate self as fourfold_protocol;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod message;
pub mod name;
pub mod offset;
pub mod pattern;
pub mod portion;
pub mod record;
pub mod refusal;
pub mod sse;
pub mod websocket;

pub use name::StreamName;
pub use offset::{Epoch, Offset, Segment, Start};
pub use pattern::Pattern;
pub use portion::Portion;
pub use record::{Kind, Record};
pub use refusal::{Code, Refusal};
