use bytes::Bytes;
use fourfold_engines::memory::MemoryEngine;
use fourfold_stream::{Append, Create, Relay, Retention};

use super::*;

#[tokio::test(start_paused = true)]
async fn what_retention_drops_makes_room_again_without_a_wait_for_the_next_minute() {
    let engine = MemoryEngine::new(Relay::new(1).0, Retention::default());
    let retention = Retention { records: Some(1), ..Retention::default() };
    let note = Some(json!({ OWNER: "ann" }).to_string());
    let wish = Create { content_type: "text/plain".into(), retention, note, ..Create::default() };
    let stream = engine.create(&StreamName::new("a").unwrap(), wish).await.unwrap().stream;
    let limits = Limits::new(LimitOptions { bytes_per_token: Some(10), ..LimitOptions::default() });
    let (quota, who) = (Quota::default(), Who::nobody());
    let append = async || {
        quota.look(who, &stream, 4, &engine, &limits).await.unwrap();
        quota.take(who, &stream, 4, &limits)?;
        let records = vec![Bytes::from_static(b"1234")];
        engine.append(&stream, Append { records, ..Append::default() }).await.unwrap();
        Ok::<(), Refusal>(())
    };
    append().await.unwrap();
    append().await.unwrap();
    for _ in 0..3 {
        assert_eq!(append().await.unwrap_err().code, Code::TooManyBytes); // It was counted a moment ago.
        tokio::time::advance(QUOTA_RECOUNT_MIN).await;
        append().await.unwrap();
    }
}
fn quota_and_engine() -> (Arc<Quota>, MemoryEngine, LimitOptions) {
    let engine = MemoryEngine::new(Relay::new(1).0, Retention::default());
    (Arc::default(), engine, LimitOptions { streams_max: Some(2), ..LimitOptions::default() })
}

#[tokio::test]
async fn a_creation_is_counted_once_wherever_a_count_comes_by() {
    for counted_at in 0..4 {
        let (quota, engine, options) = quota_and_engine();
        let count = async |at| {
            if at == counted_at {
                quota.recount(&engine).await.unwrap();
            }
        };
        let name = StreamName::new("a").unwrap();
        let creating = quota.create(Who::nobody(), &name, 0, &engine, &options).await.unwrap();
        count(0).await;
        engine.create(&name, Create::default()).await.unwrap();
        count(1).await;
        creating.made();
        count(2).await;
        assert_eq!(quota.counted().streams, 1, "{counted_at}");
        assert!(quota.counted().creations.is_empty());
    }
}

#[tokio::test]
async fn what_is_created_during_a_count_is_counted_before_and_behind_where_the_listing_is() {
    for listed_at in 0..3 {
        let (quota, engine, options) = quota_and_engine();
        engine.create(&StreamName::new("b").unwrap(), Create::default()).await.unwrap();
        quota.recount(&engine).await.unwrap();
        quota.counted().count_begins();
        let mut count = Counted::default();
        let mut list = async |at| {
            if at == listed_at {
                let page = engine.list("", None, 9).await.unwrap();
                quota.counted().count_meets(&page.streams, &mut count);
            }
        };
        let name = StreamName::new("a").unwrap();
        let creating = quota.create(Who::nobody(), &name, 0, &engine, &options).await.unwrap();
        list(0).await;
        engine.create(&name, Create::default()).await.unwrap();
        list(1).await;
        creating.made();
        list(2).await;
        assert_eq!(quota.counted().streams, 2);
        quota.counted().count_ends(count);
        quota.counted().count_stops();
        assert_eq!(quota.counted().streams, 2, "{listed_at}");
        assert!(quota.counted().creations.is_empty());
    }
}

#[tokio::test]
async fn what_is_deleted_during_a_count_is_not_counted_wherever_the_listing_is() {
    for (listed_at, is_told_late) in (0..4).flat_map(|at| [(at, false), (at, true)]) {
        let (quota, engine, _) = quota_and_engine();
        for name in ["a", "b"] {
            engine.create(&StreamName::new(name).unwrap(), Create::default()).await.unwrap();
        }
        quota.counted().count_begins();
        let mut count = Counted::default();
        let mut list = async |at| {
            if at == listed_at {
                let page = engine.list("", None, 9).await.unwrap();
                quota.counted().count_meets(&page.streams, &mut count);
            }
        };
        let stream = engine.open(&StreamName::new("a").unwrap()).await.unwrap();
        list(0).await;
        let deleting = quota.delete(stream.name(), stream.config());
        list(1).await;
        engine.delete(&stream).await.unwrap();
        list(2).await;
        let mut deleting = Some(deleting);
        if !is_told_late {
            deleting.take().expect("it is told once").done();
        }
        list(3).await;
        quota.counted().count_ends(count);
        quota.counted().count_stops();
        if let Some(deleting) = deleting {
            deleting.done();
        }
        assert_eq!(quota.counted().streams, 1, "{listed_at} {is_told_late}");
        assert!(quota.counted().deletions.is_empty());
    }
}

#[tokio::test]
async fn a_creation_that_a_count_has_found_is_counted_also_if_the_count_is_given_up() {
    let (quota, engine, options) = quota_and_engine();
    quota.recount(&engine).await.unwrap();
    let name = StreamName::new("a").unwrap();
    let unlimited = LimitOptions::default();
    let creating = quota.create(Who::nobody(), &name, 0, &engine, &unlimited).await.unwrap();
    engine.create(&name, Create::default()).await.unwrap();
    {
        let _given_up = Counting::begin(&quota);
        let page = engine.list("", None, 9).await.unwrap();
        quota.counted().count_meets(&page.streams, &mut Counted::default());
    }
    creating.made();
    assert_eq!(quota.counted().streams, 1);
    assert!(quota.create(Who::nobody(), &StreamName::new("b").unwrap(), 0, &engine, &options).await.is_ok());
}

#[tokio::test]
async fn of_two_that_create_one_stream_at_the_last_place_both_are_let_through_and_one_is_counted() {
    let (quota, engine, _) = quota_and_engine();
    let options = LimitOptions { streams_max: Some(1), ..LimitOptions::default() };
    let name = StreamName::new("a").unwrap();
    let create = async |name: &StreamName| quota.create(Who::nobody(), name, 0, &engine, &options).await;
    let (first, second) = (create(&name).await.unwrap(), create(&name).await.unwrap());
    let refused = create(&StreamName::new("b").unwrap()).await;
    assert_eq!(refused.unwrap_err().code, Code::TooManyStreams);
    second.made();
    first.give_back();
    assert_eq!(quota.counted().streams, 1);
}

#[tokio::test]
async fn a_creation_that_fails_gives_its_place_back_and_one_that_nobody_waits_for_keeps_it() {
    let (quota, engine, options) = quota_and_engine();
    let create = async |name| quota.create(Who::nobody(), &StreamName::new(name).unwrap(), 0, &engine, &options).await;
    create("a").await.unwrap().give_back();
    drop(create("b").await.unwrap());
    create("c").await.unwrap().made();
    assert!(create("d").await.is_err());
    assert!(quota.counted().creations.is_empty());
}
