//! Whether an append may go in: one rule book for every engine. Pure.
//!
//! Spec: "Append to Stream", "Idempotent Producers", "Close Stream".

use std::sync::Arc;

use crate::engine::{Append, AppendError, Appended, Producer};

/// What an engine remembers of a stream to judge the next append; committed in one step with the records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The position of the oldest record kept.
    pub oldest: u64,
    /// The place after the last record.
    pub tail: u64,
    /// Whether the stream is closed.
    pub closed: bool,
    /// The last `Stream-Seq`.
    pub last_seq: Option<String>,
    /// The producer's append that closed the stream, so that its duplicate is known.
    pub closed_by: Option<Producer>,
    /// What was said of the end when the stream was closed.
    pub ending: Option<Arc<str>>,
}

/// What an engine remembers of one producer on one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerState {
    /// Its present epoch.
    pub epoch: u64,
    /// Its last accepted sequence.
    pub seq: u64,
}

/// The verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Write the records, and the producer's new state if there is one.
    Write(Option<ProducerState>),
    /// Nothing to write: it was done before. Answer this.
    Done(Appended),
}

/// Judges an append to a stream with this head, by a producer in this state.
///
/// Errors in the order in which they are told: an epoch that is over (also on a closed stream), then closed, then the
/// producer's sequence, then `Stream-Seq`.
pub fn admit(head: &Head, state: Option<ProducerState>, append: &Append) -> Result<Admission, AppendError> {
    let done = |producer: Option<(u64, u64)>| {
        Ok(Admission::Done(Appended { next: head.tail, closed: head.closed, duplicate: true, producer }))
    };
    let mut advanced = None;
    if let Some(producer) = &append.producer {
        if let Some(state) = state {
            if producer.epoch < state.epoch {
                return Err(AppendError::StaleEpoch { current: state.epoch });
            }
            if head.closed && head.closed_by.as_ref() == Some(producer) {
                return done(Some((state.epoch, state.seq)));
            }
        }
        if head.closed {
            let close_only = append.close && append.records.is_empty();
            return if close_only {
                done(state.map(|s| (s.epoch, s.seq)))
            } else {
                Err(AppendError::Closed { tail: head.tail })
            };
        }
        match state {
            Some(state) if producer.epoch == state.epoch => {
                if producer.seq <= state.seq {
                    return done(Some((state.epoch, state.seq)));
                }
                let expected = state.seq + 1;
                if producer.seq > expected {
                    return Err(AppendError::ProducerGap { expected, received: producer.seq });
                }
            }
            Some(_) if producer.seq != 0 => return Err(AppendError::EpochStart),
            None if producer.seq != 0 => {
                return Err(AppendError::ProducerGap { expected: 0, received: producer.seq });
            }
            _ => {}
        }
        advanced = Some(ProducerState { epoch: producer.epoch, seq: producer.seq });
    } else if head.closed {
        return if append.close && append.records.is_empty() {
            done(None)
        } else {
            Err(AppendError::Closed { tail: head.tail })
        };
    }
    if let (Some(seq), Some(last)) = (&append.seq, &head.last_seq)
        && seq.as_bytes() <= last.as_bytes()
    {
        return Err(AppendError::SequenceRegression { last: last.clone() });
    }
    Ok(Admission::Write(advanced))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(epoch: u64, seq: u64) -> Append {
        Append {
            records: vec!["x".into()],
            producer: Some(Producer { id: "p".into(), epoch, seq }),
            ..Append::default()
        }
    }
    fn state(epoch: u64, seq: u64) -> Option<ProducerState> {
        Some(ProducerState { epoch, seq })
    }

    #[test]
    fn a_producer_goes_on_by_one() {
        let head = Head::default();
        assert_eq!(admit(&head, None, &by(0, 0)), Ok(Admission::Write(state(0, 0))));
        assert_eq!(admit(&head, state(0, 4), &by(0, 5)), Ok(Admission::Write(state(0, 5))));
        assert_eq!(admit(&head, state(0, 4), &by(1, 0)), Ok(Admission::Write(state(1, 0))));
    }

    #[test]
    fn a_duplicate_is_told_the_highest_sequence() {
        let Ok(Admission::Done(done)) = admit(&Head::default(), state(0, 4), &by(0, 2)) else {
            panic!("not a duplicate")
        };
        assert!(done.duplicate);
        assert_eq!(done.producer, Some((0, 4)));
    }

    #[test]
    fn holes_and_false_starts_are_told() {
        let head = Head::default();
        assert_eq!(admit(&head, state(0, 4), &by(0, 7)), Err(AppendError::ProducerGap { expected: 5, received: 7 }));
        assert_eq!(admit(&head, None, &by(0, 1)), Err(AppendError::ProducerGap { expected: 0, received: 1 }));
        assert_eq!(admit(&head, state(0, 4), &by(1, 1)), Err(AppendError::EpochStart));
    }

    #[test]
    fn a_zombie_is_fenced_even_on_a_closed_stream() {
        let head = Head { closed: true, ..Head::default() };
        assert_eq!(admit(&head, state(3, 0), &by(2, 0)), Err(AppendError::StaleEpoch { current: 3 }));
    }

    #[test]
    fn only_the_append_that_closed_is_a_duplicate_on_a_closed_stream() {
        let closer = Append { close: true, ..by(0, 3) };
        let head = Head { closed: true, closed_by: closer.producer.clone(), ..Head::default() };
        assert!(matches!(admit(&head, state(0, 3), &closer), Ok(Admission::Done(_))));
        assert_eq!(admit(&head, state(0, 3), &by(0, 2)), Err(AppendError::Closed { tail: 0 }));
        assert_eq!(admit(&head, state(0, 3), &by(0, 4)), Err(AppendError::Closed { tail: 0 }));
    }

    #[test]
    fn closing_again_is_done_but_appending_is_refused() {
        let head = Head { closed: true, tail: 9, ..Head::default() };
        let close = Append { close: true, ..Append::default() };
        assert!(matches!(admit(&head, None, &close), Ok(Admission::Done(_))));
        let both = Append { close: true, records: vec!["x".into()], ..Append::default() };
        assert_eq!(admit(&head, None, &both), Err(AppendError::Closed { tail: 9 }));
    }

    #[test]
    fn a_sequence_compares_as_bytes() {
        let head = Head { last_seq: Some("10".into()), ..Head::default() };
        let seq = |s: &str| Append { records: vec!["x".into()], seq: Some(s.into()), ..Append::default() };
        assert!(admit(&head, None, &seq("9")).is_ok());
        assert_eq!(admit(&head, None, &seq("10")), Err(AppendError::SequenceRegression { last: "10".into() }));
    }
}
