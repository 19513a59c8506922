//! One call, many who watch it, cut at random and on another transport each time: all see every record once and in order, and the same end.
//!
//! `FOURFOLD_CALLS_SEED=7` repeats what chance has decided.

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{PACED_PROGRAM, expected, one_of, paced_upstream, serving, shell, url, wish};
use crate::{
    harness::{DEADLINE, run},
    reader::{AGAIN, Begun, FORMS, Form, Reader, WAYS, http},
    records::Kind,
    seeded::{Seeded, asked_for, fresh_seed},
};

const RECORDS: u64 = 150;

/// Who reads in each form of the request that begins the call.
const READERS_A_FORM: usize = 4;

#[test]
fn a_call_is_read_exactly_by_whoever_is_cut_and_changes_over() {
    let seed = asked_for("FOURFOLD_CALLS_SEED").unwrap_or_else(fresh_seed);
    eprintln!("FOURFOLD_CALLS_SEED={seed}");
    let mut chance = Seeded::new(seed);
    let upstream = paced_upstream(chance.branch());
    let server = serving(&format!("{}{}", url("json", &upstream.url("json"), ""), shell("text", PACED_PROGRAM, "")));
    let address = server.address();
    let (readers, legs) = run(async {
        let mut watching = JoinSet::new();
        for (name, kind) in [("json", Kind::Json), ("text", Kind::Text)] {
            for n in 0..READERS_A_FORM {
                for form in FORMS {
                    // The first of each form has a call of its own, which it alone begins; the others are late and share one.
                    let key = if n == 0 { format!("{form:?}") } else { "shared".to_owned() };
                    let (address, chance) = (address.clone(), chance.branch());
                    watching.spawn(timeout(DEADLINE, async move {
                        let begun = Begun {
                            http: &http(),
                            address: &address,
                            name,
                            key: &key,
                            body: &wish(kind, RECORDS),
                            kind,
                        };
                        watch(begun, form, chance).await
                    }));
                }
            }
        }
        let mut readers = Vec::new();
        while let Some(reader) = watching.join_next().await {
            readers.push(reader.expect("a reader").expect("the end before the deadline"));
        }
        let legs: usize = readers.iter().map(|(.., legs)| legs).sum();
        (readers, legs)
    });
    eprintln!("{} readers, {legs} connections", readers.len());
    for (form, reader, _) in readers {
        let expected = expected(reader.kind(), RECORDS);
        assert!(reader.records == expected, "{form:?}: {} of {} records", reader.records.len(), expected.len());
        assert!(reader.closed);
    }
    let counts = upstream.asked_by_key();
    assert_eq!(
        (counts.len(), counts.values().max()),
        (FORMS.len() + 1, Some(&1)),
        "a call for each key, executed once"
    );
}

/// Begins the call, or finds it, reads on the request, then goes on in all ways.
async fn watch(begun: Begun<'_>, form: Form, mut chance: Seeded) -> (Form, Reader, usize) {
    // Now and then nothing but the server ends the answer.
    let patience = if chance.once_in(4) { DEADLINE } else { chance.pause(1..800) };
    let mut reader = match begun.read(form, patience).await {
        Some(reader) => reader,
        None => Reader::new(&begun.plainly().await.0),
    };
    let mut legs = 1;
    while !reader.done() {
        legs += 1;
        let way = one_of(&mut chance, &WAYS);
        if let Ok(Err(_)) = timeout(chance.pause(1..250), reader.leg(way)).await {
            sleep(AGAIN).await;
        }
    }
    (form, reader, legs)
}
