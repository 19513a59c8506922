//! An append as it is traced: begun with its head, noted on its way, told when its answer has been handed to the socket.
//!
//! What goes along is a [`Trace`]: in the request's extensions as far as [`publish`](crate::publish), then in the answer's to the socket. The last one to let go
//! of it ends it, so an append whose client has gone is told as well. Which appends are traced, and what becomes of it, is up to the `Tracer` of whoever
//! mounts the server. Only facts are told: no name of a stream, no record, no header.
//!
//! Without the feature `traces` all types here are empty and all that is noted is no code at all.

#[cfg(feature = "traces")]
mod noted;
#[cfg(not(feature = "traces"))]
mod unnoted;

#[cfg(feature = "traces")]
pub(crate) use noted::{HandedOver, Parent, Trace};
#[cfg(feature = "traces")]
pub use noted::{Telling, Traced, Tracer, Traces};
#[cfg(not(feature = "traces"))]
pub use unnoted::Traces;
#[cfg(not(feature = "traces"))]
pub(crate) use unnoted::{HandedOver, Parent, Trace};
