//! Forks: what they show, what they keep of their source, and what becomes of a source that has some.

use std::sync::Arc;

use bytes::Bytes;
use fourfold_protocol::{Code, Offset, Start};
use fourfold_stream::{
    Append, AppendError, Create, CreateError, Cursor, ForkError, ForkWish, OpenError, ReadError, Retention, Stream,
    fork::FORK_DEPTH_MAX,
};

use crate::ground::{
    ALL, Ground, appended, by, close, keeping, name, now_ms, on_every_engine, plain, read, records, until,
};

on_every_engine!(
    a_fork_shows_its_source_up_to_the_fork_point_and_then_its_own,
    a_chain_of_forks_is_read_through,
    a_read_keeps_to_its_limits_across_the_fork_point,
    a_place_before_the_fork_point_has_the_sources_token,
    a_sub_offset_cuts_a_record,
    a_sub_offset_counts_messages,
    what_cannot_be_forked_is_refused_and_changes_nothing,
    creating_a_fork_again_finds_it,
    an_end_is_inherited_unless_another_is_given,
    producers_and_sequences_begin_anew,
    a_closed_source_has_open_forks,
    a_fork_does_not_wake_for_its_source,
    a_source_that_is_deleted_stays_for_its_forks,
    the_last_fork_takes_its_sources_along,
    a_source_that_expires_stays_for_its_forks,
    a_fork_that_expires_lets_go_of_its_source,
    retention_of_a_source_takes_nothing_from_its_forks,
    retention_of_a_fork_counts_what_it_inherits,
    old_records_of_a_fork_are_dropped_also_inherited_ones,
    a_fork_of_a_part_keeps_that_part_of_a_chain,
    a_chain_has_an_end,
    many_forks_come_and_go_at_once,
    source_and_forks_are_appended_to_at_the_same_time,
    a_listing_shows_forks_but_not_what_is_gone,
);

pub(crate) fn fork_at(from: &str, at: Option<Offset>, sub: u64) -> Create {
    let fork = ForkWish { from: name(from), at: at.map(Start::At), sub };
    Create { content_type: String::new(), fork: Some(fork), ..plain() }
}

pub(crate) fn fork_of(from: &str) -> Create {
    fork_at(from, None, 0)
}

async fn with_records<const N: usize>(
    ground: &Ground,
    stream: &str,
    wish: Create,
    data: [&'static str; N],
) -> Arc<Stream> {
    let stream = ground.create(stream, wish).await;
    ground.engine.append(&stream, records(data)).await.unwrap();
    stream
}

async fn shows(ground: &Ground, stream: &Arc<Stream>) -> String {
    read(&*ground.engine, stream, stream.oldest()).await.unwrap().concat()
}

async fn refusal(ground: &Ground, wish: Create) -> CreateError {
    let refusal = ground.engine.create(&name("refused"), wish).await.unwrap_err();
    assert_eq!(ground.engine.open(&name("refused")).await.unwrap_err(), OpenError::NotFound);
    refusal
}

async fn delete(ground: &Ground, stream: &Arc<Stream>) {
    ground.engine.delete(stream).await.unwrap();
}

async fn state(ground: &Ground, stream: &str) -> Result<(), OpenError> {
    ground.engine.open(&name(stream)).await.map(drop)
}

async fn a_fork_shows_its_source_up_to_the_fork_point_and_then_its_own(ground: Ground) {
    let source = with_records(&ground, "s", plain(), ["a", "b", "c"]).await;
    let (tail, part) = (
        ground.create("tail", fork_of("s")).await,
        ground.create("part", fork_at("s", Some(source.offset(1)), 0)).await,
    );
    let begun = ground
        .create("begun", Create { records: vec!["x".into(), "y".into()], ..fork_at("s", Some(source.offset(2)), 0) })
        .await;
    ground.engine.append(&source, records(["d"])).await.unwrap();
    assert_eq!(ground.engine.append(&tail, records(["D"])).await, Ok(appended(4)));
    assert_eq!(shows(&ground, &source).await, "abcd");
    assert_eq!(shows(&ground, &tail).await, "abcD");
    assert_eq!(shows(&ground, &part).await, "a");
    assert_eq!(shows(&ground, &begun).await, "abxy");
    assert_eq!(read(&*ground.engine, &tail, 2).await.unwrap(), ["c", "D"]);
    let again = ground.engine.open(&name("part")).await.unwrap();
    assert!(Arc::ptr_eq(&part, &again) && part.tail().position == 1 && part.epoch() > source.epoch());
    let empty = ground.create("empty", fork_at("s", Some(source.offset(0)), 0)).await;
    assert_eq!((shows(&ground, &empty).await.as_str(), empty.tail().position), ("", 0));
}

async fn a_chain_of_forks_is_read_through(ground: Ground) {
    let mut last = with_records(&ground, "0", plain(), ["0", "0"]).await;
    for n in 1..6 {
        last = ground.create(&n.to_string(), fork_of(&(n - 1).to_string())).await;
        let append = Append { records: vec![n.to_string().into(); 2], ..Append::default() };
        ground.engine.append(&last, append).await.unwrap();
    }
    assert_eq!(shows(&ground, &last).await, "001122334455");
    for from in 0..12 {
        let rest = read(&*ground.engine, &last, from).await.unwrap().concat();
        assert_eq!(rest, "001122334455"[usize::try_from(from).unwrap()..]);
    }
    // Before the source's own fork point: nothing of its own is in it.
    let early = ground.create("early", fork_at("5", Some(last.offset(3)), 0)).await;
    ground.engine.append(&early, records(["!"])).await.unwrap();
    assert_eq!(shows(&ground, &early).await, "001!");
}

async fn a_read_keeps_to_its_limits_across_the_fork_point(ground: Ground) {
    with_records(&ground, "s", plain(), ["aaaa", "bb"]).await;
    let fork = with_records(&ground, "f", fork_of("s"), ["cc", "d"]).await;
    let read = async |from, records, bytes| {
        let batch = ground.engine.read(&fork, from, fourfold_stream::Limit { records, bytes }).await.unwrap();
        (batch.records.len(), batch.next)
    };
    assert_eq!(read(0, 3, usize::MAX).await, (3, 3));
    assert_eq!(read(1, 9, 4).await, (2, 3));
    assert_eq!(read(1, 9, 3).await, (1, 2));
    assert_eq!(read(2, 1, 0).await, (1, 3));
}

async fn a_place_before_the_fork_point_has_the_sources_token(ground: Ground) {
    let source = with_records(&ground, "s", plain(), ["a", "b", "c"]).await;
    let fork = with_records(&ground, "f", fork_at("s", Some(source.offset(2)), 0), ["x"]).await;
    let tokens: Vec<_> = (0..4).map(|position| fork.offset(position)).collect();
    assert_eq!(tokens[..2], [source.offset(0), source.offset(1)]);
    assert!(tokens.is_sorted_by(|a, b| a.to_string() < b.to_string()));
    assert!(tokens[2..].iter().all(|token| token.epoch == fork.epoch()));
    for (position, token) in (0..).zip(tokens) {
        assert_eq!(Cursor::place(&fork, Start::At(token)), Ok(position));
    }
    assert_eq!(
        Cursor::place(&fork, Start::At(source.offset(2))),
        Ok(2),
        "a reader of the source can go on at the fork"
    );
    let after = Cursor::place(&fork, Start::At(source.offset(3))).unwrap_err();
    assert_eq!(after.code, Code::OffsetOfAnotherEpoch);
    let own = Offset { epoch: fork.epoch(), position: 1 };
    assert_eq!(Cursor::place(&fork, Start::At(own)).unwrap_err().code, Code::OffsetOfAnotherEpoch);
    assert_eq!(Cursor::place(&source, Start::At(fork.offset(3))).unwrap_err().code, Code::OffsetOfAnotherEpoch);
    let past = Offset { epoch: fork.epoch(), position: 4 };
    assert_eq!(Cursor::place(&fork, Start::At(past)).unwrap_err().code, Code::OffsetPastTail);
}

async fn a_sub_offset_cuts_a_record(ground: Ground) {
    let source = with_records(&ground, "s", plain(), ["first", "söcond", "third"]).await;
    let fork = with_records(&ground, "f", fork_at("s", Some(source.offset(1)), 3), ["!"]).await;
    assert_eq!(read(&*ground.engine, &fork, 0).await.unwrap(), ["first", "sö", "!"]);
    let whole = ground.create("whole", fork_at("s", Some(source.offset(2)), 5)).await;
    assert_eq!((whole.tail().position, shows(&ground, &whole).await.as_str()), (3, "firstsöcondthird"));
    for (at, sub, how) in [
        (0, 6, "past the end of the record"),
        (1, 2, "into the middle of a character"),
        (3, 1, "past the source's tail"),
        (0, u64::MAX, "past the end of the record"),
    ] {
        let error = refusal(&ground, fork_at("s", Some(source.offset(at)), sub)).await;
        assert_eq!(error, ForkError::SubOffset(how).into());
    }
    let of_fork = ground.create("ff", fork_at("f", Some(fork.offset(1)), 1)).await;
    assert_eq!(shows(&ground, &of_fork).await, "firsts");
}

async fn a_sub_offset_counts_messages(ground: Ground) {
    let json = Create { content_type: "application/json".into(), ..plain() };
    let source = with_records(&ground, "s", json, ["1", "2", "3"]).await;
    let fork = ground.create("f", fork_at("s", Some(source.offset(1)), 1)).await;
    assert_eq!(read(&*ground.engine, &fork, 0).await.unwrap(), ["1", "2"]);
    assert_eq!(ground.create("all", fork_at("s", Some(source.offset(0)), 3)).await.tail().position, 3);
    let past = ForkError::SubOffset("past the source's tail");
    assert_eq!(refusal(&ground, fork_at("s", Some(source.offset(1)), 3)).await, past.clone().into());
    assert_eq!(refusal(&ground, fork_at("s", Some(source.offset(1)), u64::MAX)).await, past.into());
}

async fn what_cannot_be_forked_is_refused_and_changes_nothing(ground: Ground) {
    let retention = Retention { records: Some(2), ..Retention::default() };
    let source = with_records(&ground, "s", keeping(retention), ["a", "b", "c"]).await;
    let other = ground.create("o", plain()).await;
    let tail = source.offset(3);
    for (wish, error) in [
        (fork_of("none"), ForkError::NotFound),
        (Create { content_type: "text/html".into(), ..fork_of("s") }, ForkError::ContentType("text/plain".into())),
        (fork_at("s", Some(other.offset(0)), 0), ForkError::AnotherEpoch),
        (fork_at("s", Some(Offset { position: 4, ..tail }), 0), ForkError::PastTail { tail }),
        (fork_at("s", Some(source.offset(0)), 0), ForkError::Trimmed { oldest: source.offset(1) }),
    ] {
        assert_eq!(refusal(&ground, wish).await, error.into());
    }
    delete(&ground, &source).await;
    assert_eq!(state(&ground, "s").await, Err(OpenError::NotFound), "none of them holds it");
    let itself = ground.engine.create(&name("s"), fork_of("s")).await.unwrap_err();
    assert_eq!(itself, ForkError::NotFound.into());
}

async fn creating_a_fork_again_finds_it(ground: Ground) {
    let source = with_records(&ground, "s", Create { ttl_seconds: Some(1000), ..plain() }, ["ab", "c"]).await;
    let fork = ground.create("f", fork_at("s", Some(source.offset(0)), 1)).await;
    let tail = ground.create("t", fork_of("s")).await;
    ground.engine.append(&source, records(["d"])).await.unwrap();
    let again = async |stream: &str, wish| ground.engine.create(&name(stream), wish).await.map(|c| (c.fresh, c.stream));
    for _ in 0..2 {
        for (stream, wish, found) in [
            ("f", fork_at("s", Some(source.offset(0)), 1), &fork),
            ("f", Create { content_type: "Text/Plain; x=y".into(), ..fork_at("s", Some(source.offset(0)), 1) }, &fork),
            ("f", Create { ttl_seconds: Some(1000), ..fork_at("s", None, 1) }, &fork),
            ("t", fork_of("s"), &tail),
            ("t", fork_at("s", Some(source.offset(2)), 0), &tail),
        ] {
            let (fresh, stream) = again(stream, wish).await.unwrap();
            assert!(!fresh && Arc::ptr_eq(&stream, found));
        }
        let what = "source or fork point";
        for (stream, wish, what) in [
            ("f", fork_at("s", Some(source.offset(0)), 0), what),
            ("f", fork_at("s", Some(source.offset(1)), 1), what),
            ("t", fork_at("s", Some(source.offset(3)), 0), what),
            ("t", fork_of("f"), what),
            ("t", Create { ttl_seconds: Some(1000), ..plain() }, what),
            ("s", fork_of("t"), what),
            ("t", Create { ttl_seconds: Some(5), ..fork_of("s") }, "TTL"),
            ("t", Create { content_type: "text/html".into(), ..fork_of("s") }, "content type"),
        ] {
            match again(stream, wish.clone()).await {
                Err(CreateError::Gone) => assert_eq!(stream, "s"),
                other => assert_eq!(other.unwrap_err(), CreateError::Conflict(what), "{stream} {wish:?}"),
            }
        }
        // The same when the source is gone.
        let _ = ground.engine.delete(&source).await;
    }
}

async fn an_end_is_inherited_unless_another_is_given(ground: Ground) {
    let at = Some(now_ms() + 1_000_000);
    let retention = Retention { records: Some(9), ..Retention::default() };
    ground.create("ttl", Create { ttl_seconds: Some(900), retention, ..plain() }).await;
    ground.create("at", Create { expires_at_ms: at, ..plain() }).await;
    ground.create("none", plain()).await;
    for (n, (source, ttl_seconds, expires_at_ms, expected)) in [
        ("none", None, None, (None, None)),
        ("none", Some(5), None, (Some(5), None)),
        ("none", None, at, (None, at)),
        ("ttl", None, None, (Some(900), None)),
        ("ttl", Some(5000), None, (Some(5000), None)),
        ("ttl", None, at, (None, at)),
        ("at", None, None, (None, at)),
        ("at", Some(5000), None, (Some(5000), None)),
        ("at", None, at.map(|at| at + 1), (None, at.map(|at| at + 1))),
    ]
    .into_iter()
    .enumerate()
    {
        let fork = ground.create(&n.to_string(), Create { ttl_seconds, expires_at_ms, ..fork_of(source) }).await;
        assert_eq!((fork.config().ttl_seconds, fork.config().expires_at_ms), expected, "{source} {ttl_seconds:?}");
        assert_eq!(fork.config().retention.records, (source == "ttl").then_some(9));
    }
}

async fn producers_and_sequences_begin_anew(ground: Ground) {
    let source = ground.create("s", plain()).await;
    ground.engine.append(&source, Append { seq: Some("5".into()), ..by("p", 3, 0, "a") }).await.unwrap();
    let fork = ground.create("f", fork_of("s")).await;
    let again = Append { seq: Some("1".into()), ..by("p", 0, 0, "b") };
    assert!(!ground.engine.append(&fork, again).await.unwrap().duplicate);
    assert_eq!(shows(&ground, &fork).await, "ab");
    assert!(ground.engine.append(&source, by("p", 3, 0, "a")).await.unwrap().duplicate);
}

async fn a_closed_source_has_open_forks(ground: Ground) {
    let source = with_records(&ground, "s", plain(), ["a"]).await;
    ground.engine.append(&source, close()).await.unwrap();
    let fork = with_records(&ground, "f", fork_of("s"), ["b"]).await;
    assert!(!fork.tail().closed);
    let closed = ground.create("c", Create { closed: true, records: vec!["!".into()], ..fork_of("s") }).await;
    assert!(closed.tail().closed);
    assert_eq!(shows(&ground, &closed).await, "a!");
    ground.engine.append(&fork, close()).await.unwrap();
    assert_eq!(ground.engine.append(&fork, records(["x"])).await, Err(AppendError::Closed { tail: 2 }));
}

async fn a_fork_does_not_wake_for_its_source(ground: Ground) {
    let source = with_records(&ground, "s", plain(), ["a"]).await;
    let fork = ground.create("f", fork_of("s")).await;
    let mut cursor = Cursor::new(fork.clone(), 1, ground.shard);
    cursor.look();
    let mut moved = std::pin::pin!(cursor.moved());
    assert!(now(moved.as_mut()).is_none());
    ground.engine.append(&source, records(["b"])).await.unwrap();
    let mut of_source = Cursor::new(source.clone(), 2, ground.shard);
    of_source.look();
    ground.engine.append(&source, records(["c"])).await.unwrap();
    of_source.moved().await;
    assert!(now(moved.as_mut()).is_none(), "the shard has told the source's sleepers, and not the fork's");
    ground.engine.append(&fork, records(["B"])).await.unwrap();
    moved.await;
}

/// The outcome, if it is there already.
fn now<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

async fn a_source_that_is_deleted_stays_for_its_forks(ground: Ground) {
    let source = with_records(&ground, "s", plain(), ["a", "b"]).await;
    let fork = with_records(&ground, "f", fork_of("s"), ["c"]).await;
    delete(&ground, &source).await;
    assert!(source.tail().deleted);
    assert_eq!(state(&ground, "s").await, Err(OpenError::Gone));
    assert_eq!(ground.engine.delete(&source).await, Err(OpenError::Gone));
    assert_eq!(ground.engine.append(&source, records(["x"])).await, Err(AppendError::NotFound));
    assert_eq!(ground.engine.read(&source, 0, ALL).await, Err(ReadError::NotFound));
    assert_eq!(ground.engine.create(&name("s"), plain()).await.unwrap_err(), CreateError::Gone);
    assert_eq!(refusal(&ground, fork_of("s")).await, ForkError::Gone.into());
    assert_eq!(shows(&ground, &fork).await, "abc");
    let of_fork = ground.create("ff", fork_of("f")).await;
    delete(&ground, &fork).await;
    assert_eq!(state(&ground, "f").await, Err(OpenError::Gone));
    assert_eq!(shows(&ground, &of_fork).await, "abc");
}

async fn the_last_fork_takes_its_sources_along(ground: Ground) {
    let mut streams = vec![with_records(&ground, "0", plain(), ["0"]).await];
    for n in 1..5 {
        streams.push(with_records(&ground, &n.to_string(), fork_of(&(n - 1).to_string()), ["x"]).await);
    }
    let other = with_records(&ground, "other", fork_of("1"), ["y"]).await;
    // All but the last of the chain are gone, 2 and 0 first.
    for n in [2, 0, 3, 1] {
        delete(&ground, &streams[n]).await;
        assert_eq!(state(&ground, &n.to_string()).await, Err(OpenError::Gone));
    }
    assert_eq!(shows(&ground, &streams[4]).await, "0xxxx");
    delete(&ground, &streams[4]).await;
    for (n, expected) in [
        (4, OpenError::NotFound),
        (3, OpenError::NotFound),
        (2, OpenError::NotFound),
        (1, OpenError::Gone),
        (0, OpenError::Gone),
    ] {
        assert_eq!(state(&ground, &n.to_string()).await, Err(expected), "{n}");
    }
    assert_eq!(shows(&ground, &other).await, "0xy");
    delete(&ground, &other).await;
    for n in 0..5 {
        ground.create(&n.to_string(), plain()).await;
    }
}

async fn a_source_that_expires_stays_for_its_forks(ground: Ground) {
    let at = Some(now_ms() + 300);
    let source = with_records(&ground, "s", Create { expires_at_ms: at, ..plain() }, ["a"]).await;
    let fork = with_records(&ground, "f", Create { ttl_seconds: Some(1000), ..fork_of("s") }, ["b"]).await;
    until(async || source.tail().deleted).await;
    assert_eq!(state(&ground, "s").await, Err(OpenError::Gone));
    assert_eq!(shows(&ground, &fork).await, "ab");
    delete(&ground, &fork).await;
    assert_eq!(state(&ground, "s").await, Err(OpenError::NotFound));
}

async fn a_fork_that_expires_lets_go_of_its_source(ground: Ground) {
    let source = with_records(&ground, "s", plain(), ["a"]).await;
    let fork = ground.create("f", Create { expires_at_ms: Some(now_ms() + 300), ..fork_of("s") }).await;
    delete(&ground, &source).await;
    until(async || fork.tail().deleted).await;
    assert_eq!(state(&ground, "f").await, Err(OpenError::NotFound));
    assert_eq!(state(&ground, "s").await, Err(OpenError::NotFound));
}

async fn retention_of_a_source_takes_nothing_from_its_forks(ground: Ground) {
    let retention = Retention { records: Some(3), ..Retention::default() };
    let source = with_records(&ground, "s", keeping(retention), ["a", "b", "c"]).await;
    let plenty = Retention { records: Some(1_000_000), ..Retention::default() };
    let fork = ground.create("f", Create { retention: plenty, ..fork_of("s") }).await;
    let of_fork = ground.create("ff", fork_at("f", Some(fork.offset(2)), 0)).await;
    let many = Append { records: vec!["x".into(); 200], ..Append::default() };
    for _ in 0..5 {
        ground.engine.append(&source, many.clone()).await.unwrap();
    }
    assert_eq!(source.oldest(), 1000);
    assert_eq!(ground.engine.read(&source, 999, ALL).await, Err(ReadError::Trimmed { oldest: 1000 }));
    assert_eq!((shows(&ground, &fork).await.as_str(), shows(&ground, &of_fork).await.as_str()), ("abc", "ab"));
    delete(&ground, &fork).await;
    ground.engine.append(&source, many).await.unwrap();
    assert_eq!(shows(&ground, &of_fork).await, "ab");
    let late = ground.create("late", Create { retention: plenty, ..fork_of("s") }).await;
    assert_eq!((late.oldest(), shows(&ground, &late).await.as_str()), (1200, "xxx"));
}

async fn retention_of_a_fork_counts_what_it_inherits(ground: Ground) {
    let source = with_records(&ground, "s", plain(), ["aa", "bb", "cc", "dd"]).await;
    let bytes = |bytes| Retention { bytes: Some(bytes), ..Retention::default() };
    let fork =
        with_records(&ground, "f", Create { retention: bytes(5), ..fork_at("s", Some(source.offset(3)), 0) }, ["x"])
            .await;
    assert_eq!((fork.oldest(), shows(&ground, &fork).await.as_str()), (1, "bbccx"));
    ground.engine.append(&fork, records(["yyy"])).await.unwrap();
    assert_eq!((fork.oldest(), shows(&ground, &fork).await.as_str()), (3, "xyyy"));
    let three = Retention { records: Some(3), ..Retention::default() };
    let counted = ground.create("c", Create { retention: three, ..fork_of("s") }).await;
    assert_eq!((counted.oldest(), shows(&ground, &counted).await.as_str()), (1, "bbccdd"));
    ground.engine.append(&counted, records(["e", "f"])).await.unwrap();
    assert_eq!((counted.oldest(), shows(&ground, &counted).await.as_str()), (3, "ddef"));
    assert_eq!(ground.engine.read(&counted, 2, ALL).await, Err(ReadError::Trimmed { oldest: 3 }));
    assert_eq!(Cursor::place(&counted, Start::At(source.offset(1))).unwrap_err().code, Code::OffsetTrimmed);
    assert_eq!(shows(&ground, &source).await, "aabbccdd");
    let all = ground.create("all", Create { retention: bytes(8), ..fork_of("s") }).await;
    assert_eq!(all.oldest(), 0);
    ground.engine.append(&all, records(["e"])).await.unwrap();
    assert_eq!(all.oldest(), 1);
}

async fn old_records_of_a_fork_are_dropped_also_inherited_ones(ground: Ground) {
    with_records(&ground, "s", plain(), ["a", "b"]).await;
    let age = Retention { age_seconds: Some(1), ..Retention::default() };
    let fork = ground.create("f", Create { retention: age, ..fork_of("s") }).await;
    assert_eq!(fork.oldest(), 0);
    until(async || fork.oldest() == 1).await;
    assert_eq!(shows(&ground, &fork).await, "b");
    ground.engine.append(&fork, records(["c"])).await.unwrap();
    until(async || fork.oldest() == 2).await;
    assert_eq!(shows(&ground, &fork).await, "c");
}

async fn a_fork_of_a_part_keeps_that_part_of_a_chain(ground: Ground) {
    let one = Retention { records: Some(1), ..Retention::default() };
    let source = with_records(
        &ground,
        "s",
        keeping(Retention { records: Some(4), ..Retention::default() }),
        ["a", "b", "c", "d"],
    )
    .await;
    let fork = ground.create("f", fork_of("s")).await;
    let of_fork = ground.create("ff", fork_at("f", Some(source.offset(2)), 0)).await;
    let tight = ground.create("tight", Create { retention: one, ..fork_of("ff") }).await;
    for stream in [&source, &fork] {
        ground.engine.append(stream, Append { records: vec!["x".into(); 500], ..Append::default() }).await.unwrap();
        delete(&ground, stream).await;
    }
    assert_eq!((shows(&ground, &of_fork).await.as_str(), shows(&ground, &tight).await.as_str()), ("ab", "b"));
    delete(&ground, &of_fork).await;
    assert_eq!(shows(&ground, &tight).await, "b");
    ground.engine.append(&tight, records(["z"])).await.unwrap();
    assert_eq!(shows(&ground, &tight).await, "z");
    delete(&ground, &tight).await;
    for stream in ["s", "f", "ff", "tight"] {
        assert_eq!(state(&ground, stream).await, Err(OpenError::NotFound), "{stream}");
    }
}

async fn a_chain_has_an_end(ground: Ground) {
    with_records(&ground, "0", plain(), ["a"]).await;
    for n in 1..=FORK_DEPTH_MAX {
        ground.create(&n.to_string(), fork_of(&(n - 1).to_string())).await;
    }
    let last = ground.engine.open(&name(&FORK_DEPTH_MAX.to_string())).await.unwrap();
    assert_eq!(shows(&ground, &last).await, "a");
    assert_eq!(refusal(&ground, fork_of(last.name().as_str())).await, ForkError::TooDeep.into());
    for n in 0..FORK_DEPTH_MAX {
        let stream = ground.engine.open(&name(&n.to_string())).await.unwrap();
        delete(&ground, &stream).await;
    }
    delete(&ground, &last).await;
    for n in 0..=FORK_DEPTH_MAX {
        assert_eq!(state(&ground, &n.to_string()).await, Err(OpenError::NotFound));
    }
}

async fn many_forks_come_and_go_at_once(ground: Ground) {
    const FORKS: usize = 500;
    let kept = Retention { records: Some(2), ..Retention::default() };
    let source = with_records(&ground, "s", keeping(kept), ["a", "b"]).await;
    for round in 0..3 {
        let mut waiting = Vec::new();
        for n in 0..FORKS {
            // With and without need of the source's records, in one group with its appends.
            let at = if n % 3 == 0 { None } else { Some(source.offset(source.oldest())) };
            waiting.push(ground.engine.create(&name(&format!("{round}/{n}")), fork_at("s", at, 0)));
        }
        let mut forks = Vec::new();
        for fork in waiting {
            forks.push(fork.await.unwrap().stream);
        }
        let shown = shows(&ground, &forks[0]).await;
        ground.engine.append(&source, records(["c", "d", "e"])).await.unwrap();
        // Half of them from the first on, the others from the last on, but for one.
        let (first, last) = forks.split_at(FORKS / 2);
        let deleted = [first[1..].iter().collect::<Vec<_>>(), last.iter().rev().collect()];
        for half in deleted {
            let answers: Vec<_> = half.into_iter().map(|fork| ground.engine.delete(fork)).collect();
            ground.engine.append(&source, records(["f"])).await.unwrap();
            for answer in answers {
                answer.await.unwrap();
            }
        }
        assert_eq!(shows(&ground, &forks[0]).await, shown);
        if round == 2 {
            delete(&ground, &source).await;
        }
        delete(&ground, &forks[0]).await;
    }
    assert_eq!(state(&ground, "s").await, Err(OpenError::NotFound));
}

async fn source_and_forks_are_appended_to_at_the_same_time(ground: Ground) {
    let source = ground.create("s", plain()).await;
    let mut forks: Vec<(u64, Arc<Stream>)> = Vec::new();
    let data = |who: &str, n: u64| vec![Bytes::from(format!("{who}{n} "))];
    for round in 0..30 {
        // One group: the fork stands behind the append, whose record is not stored yet.
        let appended = ground.engine.append(&source, Append { records: data("s", round), ..Append::default() });
        let fork = ground.engine.create(&name(&format!("f/{round}")), fork_of("s"));
        let next = ground.engine.append(&source, Append { records: data("t", round), ..Append::default() });
        let mut others = Vec::new();
        for (n, (_, fork)) in forks.iter().enumerate() {
            others.push(ground.engine.append(fork, Append { records: data("f", n as u64), ..Append::default() }));
        }
        let fork = fork.await.unwrap().stream;
        assert_eq!((appended.await.unwrap().next, fork.tail().position), (round * 2 + 1, round * 2 + 1));
        next.await.unwrap();
        for other in others {
            other.await.unwrap();
        }
        forks.push((round, fork));
    }
    let all: String = (0..30).map(|n| format!("s{n} t{n} ")).collect();
    assert_eq!(shows(&ground, &source).await, all);
    for (round, fork) in forks {
        let own = format!("f{round} ").repeat(usize::try_from(29 - round).unwrap());
        let inherited: String = (0..round).map(|n| format!("s{n} t{n} ")).collect();
        assert_eq!(shows(&ground, &fork).await, format!("{inherited}s{round} {own}"));
    }
}

async fn a_listing_shows_forks_but_not_what_is_gone(ground: Ground) {
    let source = with_records(&ground, "s", plain(), ["abc", "d"]).await;
    ground.create("f", fork_at("s", Some(source.offset(0)), 2)).await;
    delete(&ground, &source).await;
    let page = ground.engine.list("", None, 9).await.unwrap();
    let [listed] = &page.streams[..] else { panic!("{page:?}") };
    let fork = listed.config.forked.as_ref().unwrap();
    assert_eq!((listed.name.as_str(), listed.oldest, listed.tail), ("f", 0, 1));
    assert_eq!((fork.from.as_str(), fork.anchor(), fork.sub, fork.point), ("s", source.offset(0), 2, 0));
}
