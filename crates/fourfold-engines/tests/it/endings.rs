//! Streams whose media type is decided later, and that say how they ended.

use std::sync::Arc;

use fourfold_stream::{Append, AppendError, Create, Stream};

use crate::ground::{Ground, close, name, on_every_engine, plain, read, records, run};

on_every_engine!(
    a_media_type_is_decided_once_by_the_append_that_says_it,
    a_media_type_may_be_decided_before_there_is_a_record,
    what_is_appended_to_an_undecided_stream_decides_it_to_be_bytes,
    an_ending_comes_with_the_close_and_stays,
    a_note_is_kept_and_not_compared,
    a_fork_of_an_undecided_stream_is_of_bytes,
);

fn undecided() -> Create {
    Create { note: Some("{\"a\":1}".into()), ..Create::default() }
}

fn saying(content_type: &str, append: Append) -> Append {
    Append { content_type: Some(content_type.into()), ..append }
}

fn ended(ending: &str) -> Append {
    Append { ending: Some(ending.into()), ..close() }
}

fn type_of(stream: &Stream) -> String {
    stream.config().content_type.clone()
}

async fn a_media_type_is_decided_once_by_the_append_that_says_it(ground: Ground) {
    let stream = ground.create("a", undecided()).await;
    assert!(stream.is_undecided());
    ground.engine.append(&stream, saying("application/json", records(["1"]))).await.unwrap();
    assert_eq!(type_of(&stream), "application/json");
    assert_eq!(stream.kind(), fourfold_protocol::Kind::of("application/json"));
    ground.engine.append(&stream, saying("text/plain", records(["2"]))).await.unwrap();
    assert_eq!(type_of(&stream), "application/json");
    assert_eq!(read(&*ground.engine, &stream, 0).await.unwrap(), ["1", "2"]);
    let listed = ground.engine.list("", None, 10).await.unwrap().streams;
    assert_eq!(listed[0].config.content_type, "application/json");
    let decided = ground.create("b", plain()).await;
    ground.engine.append(&decided, saying("text/html", records(["x"]))).await.unwrap();
    assert_eq!(type_of(&decided), "text/plain");
}

async fn a_media_type_may_be_decided_before_there_is_a_record(ground: Ground) {
    let stream = ground.create("a", undecided()).await;
    ground.engine.append(&stream, saying("text/html", Append::default())).await.unwrap();
    assert_eq!((type_of(&stream), stream.tail().position), ("text/html".into(), 0));
}

async fn what_is_appended_to_an_undecided_stream_decides_it_to_be_bytes(ground: Ground) {
    let stream = ground.create("a", undecided()).await;
    ground.engine.append(&stream, records(["x"])).await.unwrap();
    ground.engine.append(&stream, saying("application/json", records(["y"]))).await.unwrap();
    assert!(stream.is_undecided());
}

async fn an_ending_comes_with_the_close_and_stays(ground: Ground) {
    let stream = ground.create("a", plain()).await;
    assert_eq!(stream.ending(), None);
    ground.engine.append(&stream, ended("{\"outcome\":\"finished\"}")).await.unwrap();
    assert!(stream.tail().closed);
    assert_eq!(stream.ending().map(|e| &**e), Some("{\"outcome\":\"finished\"}"));
    // Another close is done already, and changes nothing.
    ground.engine.append(&stream, ended("{}")).await.unwrap();
    let both = Append { records: vec!["x".into()], ..ended("{}") };
    assert_eq!(ground.engine.append(&stream, both).await, Err(AppendError::Closed { tail: 0 }));
    assert_eq!(stream.ending().map(|e| &**e), Some("{\"outcome\":\"finished\"}"));
    let listed = ground.engine.list("", None, 10).await.unwrap().streams;
    assert_eq!(listed[0].ending.as_deref(), Some("{\"outcome\":\"finished\"}"));
}

async fn a_note_is_kept_and_not_compared(ground: Ground) {
    let stream = ground.create("a", Create { note: Some("n".into()), ..plain() }).await;
    assert_eq!(stream.config().note.as_deref(), Some("n"));
    assert!(!ground.engine.create(&name("a"), plain()).await.unwrap().fresh);
}

async fn a_fork_of_an_undecided_stream_is_of_bytes(ground: Ground) {
    let source = ground.create("s", undecided()).await;
    let fork = ground.create("f", crate::forks::fork_of("s")).await;
    assert_eq!((type_of(&fork), fork.config().note.as_ref()), ("application/octet-stream".into(), None));
    ground.engine.append(&source, saying("text/plain", Append::default())).await.unwrap();
    assert_eq!(type_of(&fork), "application/octet-stream");
}

#[test]
fn all_of_it_is_there_again() {
    run(|| async {
        let ground = Ground::embedded();
        let open = ground.create("open", undecided()).await;
        let decided = ground.create("decided", undecided()).await;
        ground.engine.append(&decided, saying("text/html", records(["x"]))).await.unwrap();
        ground.engine.append(&decided, ended("{\"a\":2}")).await.unwrap();
        let config = Arc::clone(decided.config());
        drop((open, decided));

        let ground = ground.reopened();
        let open = ground.engine.open(&name("open")).await.unwrap();
        assert!(open.is_undecided() && open.ending().is_none());
        let decided = ground.engine.open(&name("decided")).await.unwrap();
        assert_eq!(decided.config(), &config);
        assert_eq!(decided.ending().map(|e| &**e), Some("{\"a\":2}"));
        ground.engine.append(&open, saying("application/json", records(["1"]))).await.unwrap();
        assert_eq!(type_of(&open), "application/json");
    });
}
