//! The heart: streams, cursors over them, and what an engine promises. No disk, no socket.
//!
//! ```text
//! Engine::append → durable → Stream::advance → Relay → sleeping Cursors wake and read
//! ```
//!
//! - [`engine`]: the trait, what goes in and what comes out
//! - [`admission`]: whether an append may go in; one rule book for every engine
//! - [`stream`]: a stream while it is hot: its tail, its recent records, who waits
//! - [`relay`]: wakes the subscribers of a shard from within that shard
//! - `sleepers`: the cursors of one shard that sleep on one stream
//! - [`standing`]: whether a stream still is as somebody has seen it
//! - [`streams`]: the streams that are hot
//! - [`cursor`]: a subscriber's place, and what it reads next
//! - [`fork`]: streams that begin with records of another one
//! - [`frame`]: records encoded once for a dialect and shared by every cursor that stands at the same place
//! - [`pace`]: how often a stream moves, for the advice to pollers
//! - [`watch`]: tells one observer of every stream that moves, and costs nothing while there is none
//! - [`listing`]: which streams a client may see
//! - [`meter`]: counts for whoever watches the server
//! - [`stages`]: how far an append has come, for whoever traces it

pub mod admission;
pub mod cursor;
pub mod engine;
pub mod fork;
pub mod frame;
pub mod listing;
pub mod meter;
pub mod pace;
pub mod relay;
mod sleepers;
pub mod stages;
pub mod standing;
pub mod stream;
pub mod streams;
pub mod watch;

pub use admission::{Admission, Head, ProducerState};
pub use cursor::{Cursor, Ended, Next, ReadRefusal};
pub use engine::{
    Append, AppendError, Appended, Batch, Create, CreateError, Created, Engine, EngineStats, ForkError, Limit, Listed,
    Listing, OpenError, Pending, Producer, ReadError, Retention, StreamConfig, Unavailable,
};
pub use fork::{Fork, ForkWish};
pub use fourfold_protocol::{Portion, Segment};
pub use frame::{Dialect, Frame};
pub use relay::{Relay, RelayTask, Shard};
pub use stages::Stages;
pub use standing::Standing;
pub use stream::{Stream, Tail};
pub use streams::Streams;
pub use watch::{Moved, Watch};
