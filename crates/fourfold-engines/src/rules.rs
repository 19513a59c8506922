//! What every engine here decides alike: whether two configurations are the same, when a stream is due to expire, what
//! retention drops. Pure but for the clock.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fourfold_protocol::record::same_content_type;
use fourfold_stream::{Append, Appended, Create, Head, ProducerState, Retention, StreamConfig};

/// How often engines look for streams that are due: what an expiry may be late by where nobody asks for the stream.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_millis(250);

/// Milliseconds since the Unix epoch; 0 on a clock before it.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// What a fresh stream is created with.
pub(crate) fn configure(wish: &Create, defaults: Retention, now_ms: u64) -> StreamConfig {
    StreamConfig {
        content_type: wish.content_type.clone(),
        ttl_seconds: wish.ttl_seconds,
        expires_at_ms: wish.expires_at_ms,
        retention: Retention {
            age_seconds: wish.retention.age_seconds.or(defaults.age_seconds),
            bytes: wish.retention.bytes.or(defaults.bytes),
            records: wish.retention.records.or(defaults.records),
        },
        created_at_ms: now_ms,
        forked: None,
        note: wish.note.clone(),
        restored: Vec::new(),
    }
}

/// The configuration with its media type, if an append decides it.
pub(crate) fn decide(config: &StreamConfig, head: &Head, content_type: Option<&String>) -> Option<Arc<StreamConfig>> {
    let content_type = content_type.filter(|_| config.content_type.is_empty() && head.tail == 0)?;
    Some(Arc::new(StreamConfig { content_type: content_type.clone(), ..config.clone() }))
}

/// In what an existing stream differs from a wish to create it.
pub(crate) fn conflict(
    config: &StreamConfig,
    Head { oldest, closed, .. }: &Head,
    wish: &Create,
) -> Option<&'static str> {
    let (oldest, closed) = (*oldest, *closed);
    let other = |wish: Option<u64>, have: Option<u64>| wish.is_some() && wish != have;
    let (wanted, have) = (wish.retention, config.retention);
    let is_fork = wish.fork.is_some();
    let same_type = if is_fork {
        wish.content_type.is_empty() || same_content_type(&wish.content_type, &config.content_type)
    } else {
        config.content_type.eq_ignore_ascii_case(&wish.content_type)
    };
    // A fork that says nothing of its end has its source's, which may be unknown by now.
    let same_end = is_fork && wish.ttl_seconds.is_none() && wish.expires_at_ms.is_none();
    let same_source = match (&config.forked, &wish.fork) {
        (None, None) => true,
        (Some(fork), Some(wish)) => fork.satisfies(wish, oldest),
        _ => false,
    };
    if !same_source {
        Some("source or fork point")
    } else if !same_type {
        Some("content type")
    } else if !same_end && config.ttl_seconds != wish.ttl_seconds {
        Some("TTL")
    } else if !same_end && config.expires_at_ms != wish.expires_at_ms {
        Some("expiry")
    } else if closed != wish.closed {
        Some("closed status")
    } else if other(wanted.age_seconds, have.age_seconds)
        || other(wanted.bytes, have.bytes)
        || other(wanted.records, have.records)
    {
        Some("retention")
    } else {
        None
    }
}

/// When a stream that was last used at `used_ms` expires.
pub(crate) fn expires_ms(config: &StreamConfig, used_ms: u64) -> Option<u64> {
    let idle = config.ttl_seconds.map(|ttl| used_ms.saturating_add(ttl.saturating_mul(1000)));
    match (idle, config.expires_at_ms) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// When a record appended at `at_ms` is too old.
pub(crate) fn stale_ms(retention: Retention, at_ms: u64) -> Option<u64> {
    retention.age_seconds.map(|age| at_ms.saturating_add(age.saturating_mul(1000)))
}

/// What retention looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) oldest: u64,
    pub(crate) tail: u64,
    /// The bytes of the records in between.
    pub(crate) bytes: u64,
}

/// So many records age retention drops at one look: a stream that ages all at once must not hold up the others' appends.
/// The rest goes at the next looks.
pub(crate) const AGED_AT_ONCE_MAX: u64 = 4_096;

/// Moves `oldest` until what is kept satisfies `retention`, never past the newest record; by age at most
/// [`AGED_AT_ONCE_MAX`] records.
///
/// `look` gives the time and the length of the record at a position, which is `oldest` each time.
pub(crate) fn trim<E>(
    kept: &mut Kept,
    retention: Retention,
    now_ms: u64,
    mut look: impl FnMut(u64) -> Result<(u64, u64), E>,
) -> Result<(), E> {
    let mut aged = 0;
    while kept.tail - kept.oldest > 1 {
        let surplus = retention.records.is_some_and(|max| kept.tail - kept.oldest > max)
            || retention.bytes.is_some_and(|max| kept.bytes > max);
        if !surplus && retention.age_seconds.is_none() {
            break;
        }
        let (at_ms, length) = look(kept.oldest)?;
        if !surplus {
            if aged == AGED_AT_ONCE_MAX || stale_ms(retention, at_ms).is_none_or(|stale| now_ms < stale) {
                break;
            }
            aged += 1;
        }
        kept.oldest += 1;
        kept.bytes = kept.bytes.saturating_sub(length);
    }
    Ok(())
}

/// Moves a head past an append that was admitted, all but `oldest`, and says what to answer.
pub(crate) fn apply(head: &mut Head, append: &Append, producer: Option<ProducerState>) -> Appended {
    head.tail += u64::try_from(append.records.len()).expect("a length fits in 64 bits");
    if append.seq.is_some() {
        head.last_seq.clone_from(&append.seq);
    }
    if append.close {
        head.closed = true;
        head.closed_by.clone_from(&append.producer);
        head.ending.clone_from(&append.ending);
    }
    let producer = producer.map(|state| (state.epoch, state.seq));
    Appended { next: head.tail, closed: head.closed, duplicate: false, producer }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept_after(retention: Retention, now_ms: u64) -> Kept {
        let mut kept = Kept { oldest: 0, tail: 5, bytes: 50 };
        let Ok(()) =
            trim::<std::convert::Infallible>(&mut kept, retention, now_ms, |position| Ok((position * 1000, 10)));
        kept
    }

    #[test]
    fn a_stream_that_ages_all_at_once_holds_up_nobody() {
        let retention = Retention { age_seconds: Some(1), ..Retention::default() };
        let mut kept = Kept { oldest: 0, tail: 1_000_000, bytes: 1_000_000 };
        let mut looks = 0;
        let Ok(()) = trim::<std::convert::Infallible>(&mut kept, retention, 1 << 40, |_| {
            looks += 1;
            Ok((0, 1))
        });
        assert_eq!(kept.oldest, AGED_AT_ONCE_MAX);
        assert_eq!(looks, AGED_AT_ONCE_MAX + 1);
    }

    #[test]
    fn each_bound_drops_just_what_is_too_much() {
        let none = Retention::default();
        assert_eq!(kept_after(none, 1 << 40).oldest, 0);
        assert_eq!(kept_after(Retention { records: Some(3), ..none }, 0), Kept { oldest: 2, tail: 5, bytes: 30 });
        assert_eq!(kept_after(Retention { bytes: Some(29), ..none }, 0), Kept { oldest: 3, tail: 5, bytes: 20 });
        assert_eq!(kept_after(Retention { age_seconds: Some(2), ..none }, 3000).oldest, 2);
    }

    #[test]
    fn the_newest_record_stays_whatever_the_bounds() {
        let nothing = Retention { age_seconds: Some(0), bytes: Some(0), records: Some(0) };
        assert_eq!(kept_after(nothing, 1 << 40), Kept { oldest: 4, tail: 5, bytes: 10 });
    }

    #[test]
    fn the_earlier_end_counts() {
        let wish = Create {
            content_type: "text/plain".into(),
            ttl_seconds: Some(10),
            expires_at_ms: Some(12_000),
            retention: Retention::default(),
            records: Vec::new(),
            closed: false,
            fork: None,
            note: None,
        };
        let config = configure(&wish, Retention::default(), 0);
        assert_eq!(expires_ms(&config, 1_000), Some(11_000));
        assert_eq!(expires_ms(&config, 5_000), Some(12_000));
        assert_eq!(expires_ms(&StreamConfig { ttl_seconds: None, expires_at_ms: None, ..config }, 0), None);
    }
}
