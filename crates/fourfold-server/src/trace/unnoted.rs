//! Without the feature `traces`: the same names, and nothing behind them.

use fourfold_protocol::Refusal;
use fourfold_stream::{Append, Appended};
use http::{Extensions, HeaderMap, Request};

use crate::{answer::Answer, context::Context};

/// Who traces appends: nobody. The feature `traces` is not built in.
#[derive(Clone, Debug, Default)]
pub struct Traces(());

/// An append that nobody traces.
#[derive(Clone, Default)]
pub(crate) struct Trace(());

impl Trace {
    pub(crate) fn begin<B>(_: &mut Request<B>, _: &Context) -> Self {
        Self(())
    }

    pub(crate) fn along(_: &Extensions) -> Self {
        Self(())
    }

    pub(crate) fn asks(&self, _records: u64, _bytes: u64, _: &mut Append) {}

    pub(crate) fn appended(&self, _: &Appended) {}

    pub(crate) fn answered(&self, _: &mut Answer) {}

    pub(crate) fn answered_by_message(&self, _: &Result<Appended, Refusal>) {}
}

/// Appends whose answers are on their way to the socket.
#[derive(Default)]
pub(crate) struct HandedOver(());

impl HandedOver {
    pub(crate) fn soon(&mut self, _: &mut Answer) {}

    pub(crate) fn soon_by_message(&mut self, _: Trace) {}

    pub(crate) fn now(&mut self) {}
}

/// What the appends of a WebSocket are a part of: nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parent(());

impl Parent {
    pub(crate) fn of(_: &HeaderMap, _: &Context) -> Self {
        Self(())
    }

    pub(crate) fn begin(&self, _: &Context) -> Trace {
        Trace(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_feature_there_is_nothing_to_carry() {
        assert_eq!((size_of::<Traces>(), size_of::<Trace>()), (0, 0));
        assert_eq!((size_of::<HandedOver>(), size_of::<Parent>()), (0, 0));
    }
}
