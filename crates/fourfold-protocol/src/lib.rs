//! The words of the wire: pure, no I/O, no clock.
//!
//! - [`name`]: stream names, checked once at the edge
//! - [`offset`]: sortable tokens for places in a stream
//! - [`refusal`]: every error that a client can see

pub mod name;
pub mod offset;
pub mod refusal;

pub use name::StreamName;
pub use offset::{Epoch, Offset, Start};
pub use refusal::{Code, Refusal};
