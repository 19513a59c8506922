//! Where a fork begins, and with what: both engines decide it alike. Pure.

use bytes::Bytes;
use fourfold_protocol::{Epoch, Kind, Start, StreamName, record::same_content_type};
use fourfold_stream::{Create, Fork, ForkError, ForkWish, Head, Retention, StreamConfig, fork::FORK_DEPTH_MAX};

/// A living stream that is to be forked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) epoch: Epoch,
    pub(crate) config: &'a StreamConfig,
    pub(crate) head: &'a Head,
}

/// Where a fork leaves its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaving {
    anchor: u64,
    pub(crate) point: u64,
    /// The first bytes of the record at the fork point, which become the fork's own first record.
    pub(crate) part: Option<Bytes>,
}

/// Finds the fork point. `look` gives the source's record at a position.
pub(crate) fn leave<E: From<ForkError>>(
    source: Source<'_>,
    content_type: &str,
    wish: &ForkWish,
    look: impl FnOnce(u64) -> Result<Bytes, E>,
) -> Result<Leaving, E> {
    let Source { epoch, config, head } = source;
    if !content_type.is_empty() && !same_content_type(content_type, &config.content_type) {
        return Err(ForkError::ContentType(config.content_type.clone()).into());
    }
    if config.forked.as_ref().is_some_and(|fork| fork.depth >= FORK_DEPTH_MAX) {
        return Err(ForkError::TooDeep.into());
    }
    let offset = |position| config.offset(epoch, position);
    let anchor = match wish.at {
        None | Some(Start::Now) => head.tail,
        Some(Start::Oldest) => head.oldest,
        Some(Start::At(at)) => config.place(epoch, at).ok_or(ForkError::AnotherEpoch)?,
    };
    if anchor > head.tail {
        return Err(ForkError::PastTail { tail: offset(head.tail) }.into());
    }
    if anchor < head.oldest {
        return Err(ForkError::Trimmed { oldest: offset(head.oldest) }.into());
    }
    let leaving = |point, part| Ok(Leaving { anchor, point, part });
    let past_tail = || E::from(ForkError::SubOffset("past the source's tail"));
    if wish.sub == 0 {
        return leaving(anchor, None);
    }
    let kind = Kind::of(&config.content_type);
    if kind == Kind::Json {
        let point = anchor.checked_add(wish.sub).filter(|point| *point <= head.tail).ok_or_else(past_tail)?;
        return leaving(point, None);
    }
    if anchor == head.tail {
        return Err(past_tail());
    }
    let record = look(anchor)?;
    match usize::try_from(wish.sub) {
        Ok(sub) if sub == record.len() => leaving(anchor + 1, None),
        Ok(sub) if sub < record.len() => {
            let part = &record[..sub];
            if kind == Kind::Text && std::str::from_utf8(part).is_err() {
                return Err(ForkError::SubOffset("into the middle of a character").into());
            }
            // A copy: a few bytes must not keep a large record in memory.
            leaving(anchor, Some(Bytes::copy_from_slice(part)))
        }
        _ => Err(ForkError::SubOffset("past the end of the record").into()),
    }
}

/// What a fork is created with: what the wish leaves open is as the source has it.
pub(crate) fn configure(
    epoch: Epoch,
    source: Source<'_>,
    leaving: &Leaving,
    wish: &Create,
    fork: &ForkWish,
    now_ms: u64,
) -> StreamConfig {
    let config = source.config;
    let silent = wish.ttl_seconds.is_none() && wish.expires_at_ms.is_none();
    let (ttl_seconds, expires_at_ms) =
        if silent { (config.ttl_seconds, config.expires_at_ms) } else { (wish.ttl_seconds, wish.expires_at_ms) };
    let chain = Fork::chain(epoch, source.epoch, config, leaving.point);
    let from: StreamName = fork.from.clone();
    let (anchor, sub, point) = (leaving.anchor, fork.sub, leaving.point);
    let depth = config.forked.as_ref().map_or(1, |fork| fork.depth + 1);
    StreamConfig {
        // What a fork inherits of a stream whose type is undecided is nothing, and nobody will decide the fork's.
        content_type: if config.content_type.is_empty() { OCTETS.into() } else { config.content_type.clone() },
        ttl_seconds,
        expires_at_ms,
        retention: Retention {
            age_seconds: wish.retention.age_seconds.or(config.retention.age_seconds),
            bytes: wish.retention.bytes.or(config.retention.bytes),
            records: wish.retention.records.or(config.retention.records),
        },
        created_at_ms: now_ms,
        forked: Some(Box::new(Fork { from, epoch: source.epoch, anchor, sub, depth, point, chain })),
        note: None,
        restored: Vec::new(),
    }
}

const OCTETS: &str = "application/octet-stream";

/// The first record that a fork shows, and the bytes of what it inherits from there on, if its retention counts them.
/// Only as many lengths are looked at as are needed to know.
pub(crate) fn inherit<E>(
    source: Source<'_>,
    source_bytes: u64,
    retention: Retention,
    point: u64,
    mut length: impl FnMut(u64) -> Result<u64, E>,
) -> Result<(u64, u64), E> {
    let Source { head, config, .. } = source;
    // A fork without that bound does not know how much it inherits.
    let counted = config.forked.is_none() || config.retention.bytes.is_some();
    let kept = retention.records.map_or(0, |records| point.saturating_sub(records.max(1)));
    let mut oldest = head.oldest.max(kept).min(point);
    let Some(max) = retention.bytes else { return Ok((oldest, 0)) };
    if counted && point == head.tail && oldest == head.oldest && source_bytes <= max {
        return Ok((oldest, source_bytes));
    }
    let mut bytes = 0_u64;
    for position in (oldest..point).rev().take(INHERITED_COUNTED_MAX) {
        let with = bytes.saturating_add(length(position)?);
        if with > max && position + 1 < point {
            oldest = position + 1;
            break;
        }
        bytes = with;
    }
    Ok((oldest, bytes))
}

/// So many inherited records a fork's byte retention counts, the newest ones; older ones are shown and count for nothing. The committer looks at
/// each, and a fork must not hold up the others' appends.
const INHERITED_COUNTED_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_of_a_long_stream_holds_up_nobody() {
        let head = Head { oldest: 0, tail: 1_000_000, ..Head::default() };
        let config = StreamConfig { content_type: "text/plain".into(), ..StreamConfig::default() };
        let source = Source { epoch: Epoch(1), config: &config, head: &head };
        let retention = Retention { bytes: Some(u64::MAX), ..Retention::default() };
        let mut looks = 0;
        let Ok((oldest, _)) = inherit::<std::convert::Infallible>(source, 1_000_000, retention, 999_999, |_| {
            looks += 1;
            Ok(1)
        });
        assert_eq!((oldest, looks), (0, INHERITED_COUNTED_MAX));
    }

    fn inherited(retention: Retention, point: u64) -> (u64, u64) {
        let head = Head { oldest: 2, tail: 10, ..Head::default() };
        let config = StreamConfig { content_type: "text/plain".into(), ..StreamConfig::default() };
        let source = Source { epoch: Epoch(1), config: &config, head: &head };
        let Ok(inherited) = inherit::<std::convert::Infallible>(source, 80, retention, point, |_| Ok(10));
        inherited
    }

    #[test]
    fn a_fork_shows_what_its_own_retention_allows() {
        let none = Retention::default();
        assert_eq!(inherited(none, 6).0, 2);
        assert_eq!(inherited(Retention { records: Some(3), ..none }, 6).0, 3);
        assert_eq!(inherited(Retention { bytes: Some(35), ..none }, 6), (3, 30));
        assert_eq!(inherited(Retention { bytes: Some(5), ..none }, 6), (5, 10), "the newest record stays");
        assert_eq!(inherited(Retention { bytes: Some(80), ..none }, 10), (2, 80));
        assert_eq!(inherited(Retention { bytes: Some(99), ..none }, 2), (2, 0));
    }
}
