//! TTL, absolute expiry, retention by age.

use fourfold_stream::{AppendError, Create, Cursor, OpenError, ReadError, Retention};

use crate::ground::{ALL, Ground, keeping, name, now_ms, on_every_engine, plain, read, records, until};

on_every_engine!(
    an_expired_stream_is_gone_by_itself_and_its_name_is_free,
    a_use_begins_the_countdown_again,
    a_followed_stream_does_not_expire,
    an_absolute_expiry_holds_also_for_a_followed_stream,
    old_records_are_dropped_but_the_newest_one,
    old_records_are_dropped_on_a_stream_that_was_long_quiet,
);

fn expiring(ttl_seconds: u64) -> Create {
    Create { ttl_seconds: Some(ttl_seconds), ..plain() }
}

async fn an_expired_stream_is_gone_by_itself_and_its_name_is_free(ground: Ground) {
    let stream = ground.create("a", expiring(1)).await;
    ground.engine.append(&stream, records(["a"])).await.unwrap();
    until(async || stream.tail().deleted).await;
    assert_eq!(ground.engine.open(&name("a")).await.unwrap_err(), OpenError::NotFound);
    assert_eq!(ground.engine.append(&stream, records(["b"])).await, Err(AppendError::NotFound));
    assert_eq!(ground.engine.read(&stream, 0, ALL).await, Err(ReadError::NotFound));
    assert!(ground.engine.list("", None, 9).await.unwrap().streams.is_empty());
    let anew = ground.create("a", plain()).await;
    assert!(anew.epoch() > stream.epoch() && anew.tail().position == 0);
}

async fn a_use_begins_the_countdown_again(ground: Ground) {
    let (renewed, appended) = (ground.create("a", expiring(2)).await, ground.create("b", expiring(2)).await);
    let unused = ground.create("c", expiring(2)).await;
    until(async || {
        ground.engine.renew(&renewed);
        ground.engine.append(&appended, records(["x"])).await.unwrap();
        unused.tail().deleted
    })
    .await;
    for kept in ["a", "b"] {
        ground.engine.open(&name(kept)).await.unwrap();
    }
    until(async || renewed.tail().deleted && appended.tail().deleted).await;
}

async fn a_followed_stream_does_not_expire(ground: Ground) {
    let (followed, other) = (ground.create("a", expiring(1)).await, ground.create("b", expiring(1)).await);
    let cursor = Cursor::new(followed.clone(), 0, ground.shard);
    until(async || other.tail().deleted).await;
    let later = ground.create("c", expiring(1)).await;
    until(async || later.tail().deleted).await;
    assert!(!followed.tail().deleted);
    ground.engine.open(&name("a")).await.unwrap();
    drop(cursor);
    until(async || followed.tail().deleted).await;
}

async fn an_absolute_expiry_holds_also_for_a_followed_stream(ground: Ground) {
    let at = now_ms() + 500;
    let stream = ground.create("a", Create { expires_at_ms: Some(at), ..plain() }).await;
    let _cursor = Cursor::new(stream.clone(), 0, ground.shard);
    until(async || stream.tail().deleted).await;
    assert!(now_ms() >= at);
}

async fn old_records_are_dropped_but_the_newest_one(ground: Ground) {
    let retention = Retention { age_seconds: Some(1), ..Retention::default() };
    let stream = ground.create("a", keeping(retention)).await;
    ground.engine.append(&stream, records(["a", "b"])).await.unwrap();
    ground.engine.append(&stream, records(["c"])).await.unwrap();
    until(async || stream.oldest() == 2).await;
    assert_eq!(ground.engine.read(&stream, 1, ALL).await, Err(ReadError::Trimmed { oldest: 2 }));
    assert_eq!(read(&*ground.engine, &stream, 2).await.unwrap(), ["c"]);
}

async fn old_records_are_dropped_on_a_stream_that_was_long_quiet(ground: Ground) {
    let retention = Retention { age_seconds: Some(1), ..Retention::default() };
    // With a TTL there is an entry in the agenda already, and it is far away.
    let stream = ground.create("a", Create { ttl_seconds: Some(100_000), ..keeping(retention) }).await;
    ground.engine.append(&stream, records(["old"])).await.unwrap();
    let other = ground.create("b", expiring(1)).await;
    until(async || other.tail().deleted).await;
    ground.engine.append(&stream, records(["new"])).await.unwrap();
    assert_eq!(stream.oldest(), 1);
    ground.engine.append(&stream, records(["newest"])).await.unwrap();
    until(async || stream.oldest() == 2).await;
}
