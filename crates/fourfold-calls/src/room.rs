//! Room for what calls write: whoever has them may bound what all streams take.

use fourfold_protocol::{Refusal, StreamName};
use fourfold_stream::Pending;

/// Is asked before a call begins, and before each append of one that runs.
pub trait Room: Send + Sync + 'static {
    /// Takes a place for this stream of a call that is to begin. Errors: there is none; the call does not begin.
    fn take(&self, name: &StreamName) -> Pending<Result<Taken, Refusal>>;

    /// Whether nothing more is to be appended. Cheap, never waits.
    fn is_full(&self) -> bool;
}

/// A place that was taken: is told whether there is a stream now. Dropped without a word, nobody knows.
pub type Taken = Box<dyn FnOnce(bool) + Send>;

/// As much as is wanted.
impl Room for () {
    fn take(&self, _name: &StreamName) -> Pending<Result<Taken, Refusal>> {
        Box::pin(async { Ok(Box::new(|_| ()) as Taken) })
    }

    fn is_full(&self) -> bool {
        false
    }
}
