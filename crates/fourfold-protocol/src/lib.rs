//! The words of the wire: pure, no I/O, no clock.
//!
//! - [`name`]: stream names, checked once at the edge
//! - [`offset`]: sortable tokens for places in a stream
//! - [`portion`]: what a cursor reads at one go
//! - [`record`]: records, and how a body becomes records
//! - [`refusal`]: every error that a client can see

pub mod name;
pub mod offset;
pub mod portion;
pub mod record;
pub mod refusal;

pub use name::StreamName;
pub use offset::{Epoch, Offset, Start};
pub use portion::Portion;
pub use record::{Kind, Record};
pub use refusal::{Code, Refusal};
