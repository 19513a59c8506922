//! Many at once.

use std::{sync::Arc, thread};

use fourfold_stream::{Append, ReadError, Retention, Unavailable};

use crate::ground::{ALL, Ground, close, keeping, on_every_engine, plain, read, records};

const THREADS: u64 = 4;
const STREAMS: usize = 5;
const APPENDS: u64 = 100;

on_every_engine!(
    appends_of_many_threads_have_one_order_and_none_is_lost,
    a_flood_is_refused_not_lost,
    a_reader_at_the_old_end_is_told_of_trimming,
);

async fn appends_of_many_threads_have_one_order_and_none_is_lost(ground: Ground) {
    let mut streams = Vec::new();
    for n in 0..STREAMS {
        streams.push(ground.create(&format!("s/{n}"), plain()).await);
    }
    let workers: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (engine, streams) = (Arc::clone(&ground.engine), streams.clone());
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                for n in 0..APPENDS {
                    let answers: Vec<_> = streams
                        .iter()
                        .map(|stream| {
                            let records = vec![format!("{thread} {n}").into()];
                            engine.append(stream, Append { records, ..Append::default() })
                        })
                        .collect();
                    for (stream, answer) in streams.iter().zip(answers) {
                        let next = runtime.block_on(answer).unwrap().next;
                        assert!(stream.tail().position >= next, "what is acknowledged is visible");
                    }
                }
            })
        })
        .collect();
    tokio::task::spawn_blocking(move || workers.into_iter().for_each(|worker| worker.join().unwrap())).await.unwrap();
    for stream in &streams {
        let all = read(&*ground.engine, stream, 0).await.unwrap();
        assert_eq!(all.len() as u64, THREADS * APPENDS);
        for thread in 0..THREADS {
            let of_thread = all.iter().filter(|record| record.starts_with(&format!("{thread} ")));
            assert!(of_thread.eq((0..APPENDS).map(|n| format!("{thread} {n}")).collect::<Vec<_>>().iter()));
        }
    }
}

async fn a_flood_is_refused_not_lost(ground: Ground) {
    let stream = ground.create("a", plain()).await;
    let data = bytes::Bytes::from(vec![b'x'; 1024 * 1024]);
    let append = || ground.engine.append(&stream, Append { records: vec![data.clone()], ..Append::default() });
    let answers: Vec<_> = (0..200).map(|_| append()).collect();
    let mut next = 0;
    for answer in answers {
        match answer.await {
            Ok(done) => {
                next += 1;
                assert_eq!(done.next, next);
            }
            Err(error) => assert_eq!(error, Unavailable::Overloaded.into()),
        }
    }
    // Each counts a little more than its record.
    assert!(next >= 63, "{next}");
    assert_eq!(stream.tail().position, next);
}

async fn a_reader_at_the_old_end_is_told_of_trimming(ground: Ground) {
    let retention = Retention { records: Some(3), ..Retention::default() };
    let stream = ground.create("a", keeping(retention)).await;
    let (engine, read_from) = (Arc::clone(&ground.engine), Arc::clone(&stream));
    let reader = tokio::spawn(async move {
        while !read_from.tail().closed {
            let from = read_from.oldest();
            match engine.read(&read_from, from, ALL).await {
                Ok(batch) => assert!(batch.records.first().is_none_or(|first| first.position == from)),
                Err(error) => assert!(matches!(error, ReadError::Trimmed { oldest } if oldest > from), "{error}"),
            }
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..300 {
        let two = [records(["x"]), records(["y", "z"])].map(|append| ground.engine.append(&stream, append));
        for appended in two {
            appended.await.unwrap();
        }
    }
    ground.engine.append(&stream, close()).await.unwrap();
    reader.await.unwrap();
}
