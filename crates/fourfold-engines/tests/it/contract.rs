//! Creating, appending, reading, deleting, listing.

use std::sync::Arc;

use fourfold_protocol::Record;
use fourfold_stream::{
    Append, AppendError, Create, CreateError, Engine, Limit, OpenError, ReadError, Retention, Stream,
};

use crate::ground::{ALL, Ground, appended, close, keeping, name, on_every_engine, plain, read, records};

on_every_engine!(
    creating_again_finds_the_stream,
    a_conflict_names_what_differs,
    first_records_and_a_first_close_come_with_the_creation,
    appends_are_read_in_order,
    a_read_keeps_to_its_limits_but_reads_one_record,
    an_append_takes_its_place_when_it_is_called,
    a_closed_stream_takes_no_more,
    a_sequence_must_grow,
    a_refused_append_changes_nothing,
    everybody_has_the_same_handle,
    a_deleted_stream_is_gone_and_its_name_is_free,
    a_later_life_has_a_greater_epoch,
    retention_by_records_is_exact,
    retention_by_bytes_is_exact_and_keeps_the_newest,
    a_large_append_is_trimmed_at_once,
    a_listing_is_in_order_and_goes_on,
);

async fn creating_again_finds_the_stream(ground: Ground) {
    let retention = Retention { records: Some(5), ..Retention::default() };
    let wish = Create { ttl_seconds: Some(100), ..keeping(retention) };
    let stream = ground.create("a/b", wish.clone()).await;
    let shouted = Create { content_type: "Text/PLAIN".into(), records: vec!["x".into()], ..wish.clone() };
    for again in [wish.clone(), shouted, Create { retention: Retention::default(), ..wish }] {
        let found = ground.engine.create(&name("a/b"), again).await.unwrap();
        assert!(!found.fresh && Arc::ptr_eq(&found.stream, &stream));
    }
    assert_eq!(stream.tail().position, 0, "a stream that was there gets no records");
    assert_eq!(stream.config().content_type, "text/plain");
}

async fn a_conflict_names_what_differs(ground: Ground) {
    ground.create("a", plain()).await;
    let other = Retention { bytes: Some(1), ..Retention::default() };
    for (wish, what) in [
        (Create { content_type: "text/html".into(), ..plain() }, "content type"),
        (Create { content_type: "text/plain; charset=utf-8".into(), ..plain() }, "content type"),
        (Create { ttl_seconds: Some(1), ..plain() }, "TTL"),
        (Create { expires_at_ms: Some(u64::MAX), ..plain() }, "expiry"),
        (Create { closed: true, ..plain() }, "closed status"),
        (keeping(other), "retention"),
    ] {
        assert_eq!(ground.engine.create(&name("a"), wish).await.unwrap_err(), CreateError::Conflict(what));
    }
}

async fn first_records_and_a_first_close_come_with_the_creation(ground: Ground) {
    let wish = Create { records: vec!["a".into(), "b".into()], closed: true, ..plain() };
    let stream = ground.create("a", wish).await;
    assert!(stream.tail().closed);
    assert_eq!(read(&*ground.engine, &stream, 0).await.unwrap(), ["a", "b"]);
}

async fn appends_are_read_in_order(ground: Ground) {
    let stream = ground.create("a", plain()).await;
    assert_eq!(ground.engine.append(&stream, records(["a", "b"])).await, Ok(appended(2)));
    assert_eq!(ground.engine.append(&stream, records(["", "c"])).await, Ok(appended(4)));
    assert_eq!(stream.tail().position, 4);
    assert_eq!(read(&*ground.engine, &stream, 0).await.unwrap(), ["a", "b", "", "c"]);
    assert_eq!(read(&*ground.engine, &stream, 3).await.unwrap(), ["c"]);
    assert!(read(&*ground.engine, &stream, 4).await.unwrap().is_empty());
}

async fn a_read_keeps_to_its_limits_but_reads_one_record(ground: Ground) {
    let stream = ground.create("a", plain()).await;
    ground.engine.append(&stream, records(["aaaa", "bb", "cc", "d"])).await.unwrap();
    let read = async |from, records, bytes| {
        let batch = ground.engine.read(&stream, from, Limit { records, bytes }).await.unwrap();
        (batch.records.len(), batch.next)
    };
    assert_eq!(read(0, 2, usize::MAX).await, (2, 2));
    assert_eq!(read(0, 9, 6).await, (2, 2));
    assert_eq!(read(0, 9, 7).await, (2, 2));
    assert_eq!(read(0, 9, 8).await, (3, 3));
    assert_eq!(read(0, 9, 1).await, (1, 1), "one record however large");
    assert_eq!(read(1, 0, 0).await, (1, 2));
}

async fn an_append_takes_its_place_when_it_is_called(ground: Ground) {
    let stream = ground.create("a", plain()).await;
    let first = ground.engine.append(&stream, records(["first"]));
    drop(ground.engine.append(&stream, records(["nobody waits for this"])));
    let last = ground.engine.append(&stream, records(["last"]));
    assert_eq!(last.await, Ok(appended(3)));
    assert_eq!(first.await, Ok(appended(1)));
    assert_eq!(read(&*ground.engine, &stream, 0).await.unwrap(), ["first", "nobody waits for this", "last"]);
}

async fn a_closed_stream_takes_no_more(ground: Ground) {
    let stream = ground.create("a", plain()).await;
    let closing = Append { close: true, ..records(["a"]) };
    let done = ground.engine.append(&stream, closing).await.unwrap();
    assert!(done.closed && !done.duplicate && done.next == 1);
    assert!(stream.tail().closed);
    let again = ground.engine.append(&stream, close()).await.unwrap();
    assert!(again.closed && again.duplicate && again.next == 1);
    assert_eq!(ground.engine.append(&stream, records(["b"])).await, Err(AppendError::Closed { tail: 1 }));
    assert_eq!(read(&*ground.engine, &stream, 0).await.unwrap(), ["a"]);
}

async fn a_sequence_must_grow(ground: Ground) {
    let stream = ground.create("a", plain()).await;
    let with = |seq: &str| Append { seq: Some(seq.into()), ..records(["a"]) };
    ground.engine.append(&stream, with("b")).await.unwrap();
    let regression = Err(AppendError::SequenceRegression { last: "b".into() });
    assert_eq!(ground.engine.append(&stream, with("b")).await, regression);
    ground.engine.append(&stream, records(["without"])).await.unwrap();
    assert_eq!(ground.engine.append(&stream, with("a")).await, regression);
    assert_eq!(ground.engine.append(&stream, with("ba")).await, Ok(appended(3)));
}

async fn a_refused_append_changes_nothing(ground: Ground) {
    let stream = ground.create("a", plain()).await;
    let with = |seq: &str, close| Append { seq: Some(seq.into()), close, ..records(["a", "b"]) };
    ground.engine.append(&stream, with("5", false)).await.unwrap();
    ground.engine.append(&stream, with("4", true)).await.unwrap_err();
    assert_eq!(stream.tail(), fourfold_stream::Tail::open(2));
    assert_eq!(ground.engine.append(&stream, with("6", false)).await, Ok(appended(4)));
}

async fn everybody_has_the_same_handle(ground: Ground) {
    let stream = ground.create("a", plain()).await;
    let opened = ground.engine.open(&name("a")).await.unwrap();
    assert!(Arc::ptr_eq(&stream, &opened));
    assert_eq!(ground.engine.open(&name("b")).await.unwrap_err(), OpenError::NotFound);
}

async fn gone(engine: &dyn Engine, stream: &Arc<Stream>) {
    assert_eq!(engine.append(stream, records(["x"])).await, Err(AppendError::NotFound));
    assert_eq!(engine.read(stream, 0, ALL).await, Err(ReadError::NotFound));
    assert_eq!(engine.delete(stream).await, Err(OpenError::NotFound));
}

async fn a_deleted_stream_is_gone_and_its_name_is_free(ground: Ground) {
    let stream = ground.create("a", plain()).await;
    ground.engine.append(&stream, records(["old"])).await.unwrap();
    ground.engine.delete(&stream).await.unwrap();
    assert!(stream.tail().deleted);
    gone(&*ground.engine, &stream).await;
    assert_eq!(ground.engine.open(&name("a")).await.unwrap_err(), OpenError::NotFound);
    let anew = ground.create("a", Create { content_type: "text/html".into(), ..plain() }).await;
    gone(&*ground.engine, &stream).await;
    assert_eq!(ground.engine.append(&anew, records(["new"])).await, Ok(appended(1)));
    assert_eq!(read(&*ground.engine, &anew, 0).await.unwrap(), ["new"]);
}

async fn a_later_life_has_a_greater_epoch(ground: Ground) {
    let mut last = None;
    for round in 0..20 {
        let stream = ground.create(if round % 2 == 0 { "a" } else { "b" }, plain()).await;
        assert!(Some(stream.epoch()) > last);
        last = Some(stream.epoch());
        ground.engine.delete(&stream).await.unwrap();
    }
}

async fn retention_by_records_is_exact(ground: Ground) {
    let retention = Retention { records: Some(3), ..Retention::default() };
    let stream = ground.create("a", keeping(retention)).await;
    for next in 1..=200_u64 {
        assert_eq!(ground.engine.append(&stream, records(["x"])).await, Ok(appended(next)));
        assert_eq!(stream.oldest(), next.saturating_sub(3));
        if next % 50 == 0 {
            let trimmed = Err(ReadError::Trimmed { oldest: next - 3 });
            assert_eq!(ground.engine.read(&stream, next - 4, ALL).await, trimmed);
            assert_eq!(read(&*ground.engine, &stream, next - 3).await.unwrap().len(), 3);
        }
    }
}

async fn retention_by_bytes_is_exact_and_keeps_the_newest(ground: Ground) {
    let retention = Retention { bytes: Some(5), ..Retention::default() };
    let stream = ground.create("a", keeping(retention)).await;
    for (data, kept) in [
        ("aa", vec!["aa"]),
        ("bbb", vec!["aa", "bbb"]),
        ("c", vec!["bbb", "c"]),
        ("longer than all", vec!["longer than all"]),
        ("d", vec!["d"]),
        ("", vec!["d", ""]),
    ] {
        ground.engine.append(&stream, records([data])).await.unwrap();
        assert_eq!(read(&*ground.engine, &stream, stream.oldest()).await.unwrap(), kept);
    }
}

async fn a_large_append_is_trimmed_at_once(ground: Ground) {
    let retention = Retention { records: Some(2), ..Retention::default() };
    let wish = Create { records: vec!["1".into(), "2".into(), "3".into()], ..keeping(retention) };
    let stream = ground.create("a", wish).await;
    assert_eq!(stream.oldest(), 1);
    let many = Append { records: vec!["x".into(); 1000], ..Append::default() };
    let (one, two) = (ground.engine.append(&stream, many.clone()), ground.engine.append(&stream, many));
    assert_eq!(one.await, Ok(appended(1003)));
    assert_eq!(two.await, Ok(appended(2003)));
    assert_eq!(stream.oldest(), 2001);
    let last = ground.engine.read(&stream, 2002, ALL).await.unwrap().records;
    assert_eq!(last, [Record { position: 2002, data: "x".into() }]);
}

async fn a_listing_is_in_order_and_goes_on(ground: Ground) {
    for stream in ["b", "a/2", "a/10", "a", "c/ü", "a0"] {
        ground.create(stream, plain()).await;
    }
    let stream = ground.engine.open(&name("a/2")).await.unwrap();
    ground.engine.append(&stream, Append { close: true, ..records(["x"]) }).await.unwrap();
    let list = async |prefix, after, limit| {
        let page = ground.engine.list(prefix, after, limit).await.unwrap();
        (page.streams.iter().map(|s| s.name.as_str().to_owned()).collect::<Vec<_>>().join(" "), page.more)
    };
    assert_eq!(list("", None, 9).await, ("a a/10 a/2 a0 b c/ü".into(), false));
    assert_eq!(list("", None, 2).await, ("a a/10".into(), true));
    assert_eq!(list("", Some("a/10"), 2).await, ("a/2 a0".into(), true));
    assert_eq!(list("a/", None, 2).await, ("a/10 a/2".into(), false));
    assert_eq!(list("a/", Some("a/10"), 9).await, ("a/2".into(), false));
    assert_eq!(list("a/", Some("A"), 9).await, ("a/10 a/2".into(), false));
    assert_eq!(list("nothing", None, 9).await, (String::new(), false));
    assert_eq!(list("", None, 0).await, (String::new(), true));
    let page = ground.engine.list("a/2", None, 1).await.unwrap();
    assert!(page.streams[0].closed && page.streams[0].tail == 1 && page.streams[0].epoch == stream.epoch());
    assert_eq!(page.streams[0].bytes, 1);
}
