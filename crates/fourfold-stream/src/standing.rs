//! Whether a stream still stands as somebody has seen it: all that decides what a poll gets, in two numbers.
//!
//! Both only ever grow, so what is the same now was the same all the time in between.

use std::{
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use crate::{Stream, Tail, stream::State};

/// How a stream stood: its tail with all that is said of it, and the oldest record kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    word: u64,
    oldest: u64,
}

impl Stream {
    /// How it stands; `None` if it is gone.
    pub fn standing(&self) -> Option<Standing> {
        let standing = self.standing_of(&self.state());
        (!Tail::of(standing.word).deleted).then_some(standing)
    }

    /// As [`poll_after`](Self::poll_after), if it stands as it did then.
    pub fn poll_after_if(&self, then: Standing, now: Instant) -> Option<Duration> {
        let state = self.state();
        (self.standing_of(&state) == then).then(|| state.pace.poll_after(now, fastrand::f32()))
    }

    fn standing_of(&self, state: &State) -> Standing {
        Standing { word: self.word.load(SeqCst), oldest: state.oldest }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use fourfold_protocol::{Epoch, Record, StreamName};

    use super::*;
    use crate::{Relay, StreamConfig, Streams};

    #[test]
    fn it_stands_as_before_until_anything_changes() {
        let streams = Streams::new(Relay::new(1).0);
        let config = Arc::new(StreamConfig { content_type: "text/plain".into(), ..StreamConfig::default() });
        let name = StreamName::new("a").expect("a plain name");
        let stream = streams.heat(&name, Epoch(1), &config, 0, Tail::open(0), None);
        let stands = |then| stream.poll_after_if(then, Instant::now()).is_some();
        let record = Record { position: 0, data: Bytes::from_static(b"x") };
        let changes: [&dyn Fn(); 4] = [
            &|| stream.advance(vec![record.clone()], 1, false, 0),
            &|| stream.trim(1),
            &|| stream.advance(Vec::new(), 1, true, 1),
            &|| streams.cool(&name, Epoch(1)),
        ];
        for change in changes {
            let then = stream.standing().expect("it is there");
            assert!(stands(then));
            stream.rouse();
            assert!(stands(then), "a cursor that is woken changes nothing for a poll");
            change();
            assert!(!stands(then));
        }
        assert_eq!(stream.standing(), None);
    }
}
