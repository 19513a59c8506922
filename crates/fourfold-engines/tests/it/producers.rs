//! Idempotent producers.

use fourfold_stream::{Append, AppendError, Appended};

use crate::ground::{Ground, by, on_every_engine, plain, read};

on_every_engine!(
    a_duplicate_is_told_and_not_appended,
    a_hole_is_refused_and_a_new_epoch_fences,
    only_the_closing_append_is_a_duplicate_after_the_close,
    pipelined_appends_see_each_other,
);

fn done(next: u64, duplicate: bool, epoch: u64, seq: u64) -> Result<Appended, AppendError> {
    Ok(Appended { next, closed: false, duplicate, producer: Some((epoch, seq)) })
}

async fn a_duplicate_is_told_and_not_appended(ground: Ground) {
    let stream = ground.create("a", plain()).await;
    let append = |append| ground.engine.append(&stream, append);
    assert_eq!(append(by("p", 0, 0, "a")).await, done(1, false, 0, 0));
    assert_eq!(append(by("q", 7, 0, "b")).await, done(2, false, 7, 0));
    assert_eq!(append(by("p", 0, 0, "a")).await, done(2, true, 0, 0));
    assert_eq!(append(by("p", 0, 1, "c")).await, done(3, false, 0, 1));
    assert_eq!(append(by("p", 0, 0, "a")).await, done(3, true, 0, 1));
    assert_eq!(read(&*ground.engine, &stream, 0).await.unwrap(), ["a", "b", "c"]);
}

async fn a_hole_is_refused_and_a_new_epoch_fences(ground: Ground) {
    let stream = ground.create("a", plain()).await;
    let append = |append| ground.engine.append(&stream, append);
    assert_eq!(append(by("p", 0, 1, "a")).await, Err(AppendError::ProducerGap { expected: 0, received: 1 }));
    append(by("p", 0, 0, "a")).await.unwrap();
    assert_eq!(append(by("p", 0, 2, "a")).await, Err(AppendError::ProducerGap { expected: 1, received: 2 }));
    assert_eq!(append(by("p", 1, 1, "a")).await, Err(AppendError::EpochStart));
    assert_eq!(append(by("p", 1, 0, "b")).await, done(2, false, 1, 0));
    assert_eq!(append(by("p", 0, 1, "a")).await, Err(AppendError::StaleEpoch { current: 1 }));
}

async fn only_the_closing_append_is_a_duplicate_after_the_close(ground: Ground) {
    let stream = ground.create("a", plain()).await;
    ground.engine.append(&stream, by("p", 0, 0, "a")).await.unwrap();
    let closing = Append { close: true, ..by("p", 0, 1, "b") };
    for duplicate in [false, true] {
        let closed = Appended { next: 2, closed: true, duplicate, producer: Some((0, 1)) };
        assert_eq!(ground.engine.append(&stream, closing.clone()).await, Ok(closed));
    }
    let refused = Err(AppendError::Closed { tail: 2 });
    assert_eq!(ground.engine.append(&stream, by("p", 0, 0, "a")).await, refused);
    assert_eq!(ground.engine.append(&stream, by("q", 0, 0, "a")).await, refused);
}

async fn pipelined_appends_see_each_other(ground: Ground) {
    let stream = ground.create("a", plain()).await;
    let answers = [0, 1, 1, 3, 2].map(|seq| ground.engine.append(&stream, by("p", 0, seq, "x")));
    let mut told = Vec::new();
    for answer in answers {
        told.push(answer.await);
    }
    let gap = Err(AppendError::ProducerGap { expected: 2, received: 3 });
    assert_eq!(told, [done(1, false, 0, 0), done(2, false, 0, 1), done(2, true, 0, 1), gap, done(3, false, 0, 2)]);
}
