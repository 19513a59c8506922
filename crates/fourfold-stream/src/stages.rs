//! How far an append has come: what only its engine knows, noted in passing for whoever traces it.
//!
//! ```text
//! asked ── queue ── taken ── commit ── committed
//! ```
//!
//! Without the feature `traces` there is nothing in a [`Stages`] and in a [`Moment`], and noting is no code at all: engines need no conditions.

#[cfg(feature = "traces")]
pub use noted::{Marks, Moment, Stages};
#[cfg(not(feature = "traces"))]
pub use unnoted::{Moment, Stages};

#[cfg(feature = "traces")]
mod noted {
    use std::{
        sync::{Arc, OnceLock},
        time::Instant,
    };

    /// A moment that many appends may share.
    #[derive(Clone, Copy, Debug)]
    pub struct Moment(Instant);

    impl Moment {
        /// This one.
        #[must_use]
        pub fn now() -> Self {
            Self(Instant::now())
        }
    }

    /// Goes with an append to its engine, and stays with whoever traces it. Empty for those that nobody traces.
    #[derive(Clone, Debug, Default)]
    pub struct Stages(Option<Arc<Marked>>);

    #[derive(Debug)]
    struct Marked {
        asked: Instant,
        taken: OnceLock<Instant>,
        committed: OnceLock<Instant>,
    }

    /// When an append got how far.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Marks {
        /// It was handed to its engine.
        pub asked: Instant,
        /// It had waited long enough: its group began, if it came so far.
        pub taken: Option<Instant>,
        /// Its group was as durable as promised, or could not be made so; if it came so far.
        pub committed: Option<Instant>,
    }

    impl Stages {
        /// Of an append that is handed to its engine now.
        #[must_use]
        pub fn begin() -> Self {
            let marked = Marked { asked: Instant::now(), taken: OnceLock::new(), committed: OnceLock::new() };
            Self(Some(Arc::new(marked)))
        }

        /// For engines: it waits no longer for others, since then.
        pub fn taken(&self, at: Moment) {
            if let Some(marked) = &self.0 {
                let _ = marked.taken.set(at.0); // An engine says it once.
            }
        }

        /// For engines: what was decided is as durable as promised, be it a refusal, or could not be made so. Before anybody is told.
        pub fn committed(&self) {
            if let Some(marked) = &self.0 {
                let _ = marked.committed.set(Instant::now());
            }
        }

        /// What was noted up to now; `None` if the append never came to its engine.
        #[must_use]
        pub fn marks(&self) -> Option<Marks> {
            let marked = self.0.as_ref()?;
            let (taken, committed) = (marked.taken.get().copied(), marked.committed.get().copied());
            Some(Marks { asked: marked.asked, taken, committed })
        }
    }
}

#[cfg(not(feature = "traces"))]
mod unnoted {
    /// A moment that many appends may share; not noted here.
    #[derive(Clone, Copy, Debug)]
    pub struct Moment(());

    impl Moment {
        /// This one.
        #[must_use]
        pub fn now() -> Self {
            Self(())
        }
    }

    /// Goes with an append to its engine; nothing is noted here.
    #[derive(Clone, Debug, Default)]
    pub struct Stages(());

    impl Stages {
        /// For engines: it waits no longer for others, since then.
        pub fn taken(&self, _: Moment) {}

        /// For engines: what was decided is as durable as promised, be it a refusal, or could not be made so. Before anybody is told.
        pub fn committed(&self) {}
    }
}

#[cfg(all(test, not(feature = "traces")))]
mod tests {
    use super::{Moment, Stages};

    #[test]
    fn without_the_feature_there_is_nothing_to_carry() {
        assert_eq!((size_of::<Stages>(), size_of::<Moment>()), (0, 0));
    }
}
