//! Sleepers wake when the stream has moved, and not before it is durable.

use std::{future::poll_fn, sync::Arc, task::Poll};

use fourfold_stream::{Append, Create, Cursor, Stream};
use tokio::sync::oneshot;

use crate::ground::{Ground, close, now_ms, on_every_engine, plain, read, records};

on_every_engine!(an_append_wakes_and_is_readable_by_then, a_close_wakes, a_deletion_wakes, an_expiry_wakes,);

/// Completes when a cursor has slept and was woken by a change.
async fn asleep(ground: &Ground, stream: &Arc<Stream>) -> oneshot::Receiver<fourfold_stream::Tail> {
    let mut cursor = Cursor::new(Arc::clone(stream), stream.tail().position, ground.shard);
    let (woken, tell) = oneshot::channel();
    let (sleeping, slept) = oneshot::channel();
    tokio::spawn(async move {
        let before = cursor.look();
        poll_fn(|cx| {
            assert!(cursor.poll_moved(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        sleeping.send(()).unwrap();
        cursor.moved().await;
        while cursor.look() == before {
            cursor.moved().await;
        }
        let _ = woken.send(cursor.look());
    });
    slept.await.unwrap();
    tell
}

async fn an_append_wakes_and_is_readable_by_then(ground: Ground) {
    let stream = ground.create("a", plain()).await;
    let sleeper = asleep(&ground, &stream).await;
    // Nobody waits for the append itself.
    drop(ground.engine.append(&stream, records(["a"])));
    assert_eq!(sleeper.await.unwrap().position, 1);
    assert_eq!(read(&*ground.engine, &stream, 0).await.unwrap(), ["a"]);
}

async fn a_close_wakes(ground: Ground) {
    let stream = ground.create("a", plain()).await;
    let sleeper = asleep(&ground, &stream).await;
    ground.engine.append(&stream, Append { ..close() }).await.unwrap();
    assert!(sleeper.await.unwrap().closed);
}

async fn a_deletion_wakes(ground: Ground) {
    let stream = ground.create("a", plain()).await;
    let sleeper = asleep(&ground, &stream).await;
    ground.engine.delete(&stream).await.unwrap();
    assert!(sleeper.await.unwrap().deleted);
}

async fn an_expiry_wakes(ground: Ground) {
    let stream = ground.create("a", Create { expires_at_ms: Some(now_ms() + 300), ..plain() }).await;
    let sleeper = asleep(&ground, &stream).await;
    assert!(sleeper.await.unwrap().deleted);
}
