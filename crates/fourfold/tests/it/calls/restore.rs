//! Calls through a backup and a restore: what had ended is as it was, what ran is interrupted, and no key that the backup knows executes twice.

use std::fs;

use serde_json::Value;

use super::{ended, serving, shell, state, told::Told};
use crate::{
    backup::{backup, restored_in_place},
    harness::run,
    reader::{Begun, Reader, Target, WAYS, Way, answer, http},
    records::Kind,
};

/// Notes for whom it was run, says two lines, and fails.
const FAILING: &str = r#"echo "$FOURFOLD_CALL_ID" >> "$RAN"; echo one; echo two; echo why it failed >&2; exit 3"#;

/// The same, but says a third when the gate is open, and ends as it should.
const GATED: &str = r#"echo "$FOURFOLD_CALL_ID" >> "$RAN"; echo one; echo two; while [ ! -e "$GATE" ] && kill -0 $PPID; do sleep 0.02; done; echo three"#;

/// Begins the call of this key, or finds it. Whether it was there.
async fn keyed(address: &str, name: &str, key: &str) -> (Target, bool) {
    let begun = Begun { http: &http(), address, name, key, body: "please", kind: Kind::Text };
    begun.plainly().await
}

fn id(target: &Target) -> &str {
    target.stream.strip_prefix("calls/").expect("it is a call's")
}

#[test]
fn a_restore_brings_calls_back_and_executes_none_twice() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let environment = format!("environment = {{ RAN = '{}', GATE = '{}' }}", at("ran").display(), at("gate").display());
    let mut server =
        serving(&format!("{}{}", shell("failing", FAILING, &environment), shell("gated", GATED, &environment)));
    let address = server.address();
    run(async {
        let (failed, _) = keyed(&address, "failing", "failed").await;
        ended(&address, id(&failed)).await;
        let told = Told::of(&address, id(&failed)).await;
        let (running, _) = keyed(&address, "gated", "running").await;
        let mut watcher = Reader::read(&running, Way::WebSocket, 2).await;
        backup(&server, &at("backup")).succeeded();
        // All of this will be lost: the end of the call that runs, and another call.
        fs::write(at("gate"), "").unwrap();
        ended(&address, id(&running)).await;
        let lost = Reader::read(&running, Way::Sse, usize::MAX).await.offset;
        let (later, _) = keyed(&address, "failing", "later").await;
        ended(&address, id(&later)).await;

        let server = restored_in_place(&mut server, &at("backup"));
        assert_eq!(server.address(), address);
        assert_eq!(Told::of(&address, id(&failed)).await, told);
        for (name, call, key) in [("failing", &failed, "failed"), ("gated", &running, "running")] {
            let (found, replayed) = keyed(&address, name, key).await;
            assert_eq!((found.path(), replayed), (call.path(), true), "the same key is the same call");
            let other = http().post(format!("http://{address}/v1/call/{name}")).header("Idempotency-Key", key);
            answer(other.body("another request"), &[422]).await.expect("it is up");
        }
        // No reader finds it running, also none that goes on from what it has.
        let interrupted = state(&address, id(&running)).await;
        assert_eq!(
            (&interrupted["state"], &interrupted["ending"]["outcome"]),
            (&"ended".into(), &"interrupted".into())
        );
        assert_eq!(interrupted["ending"]["code"], "killed");
        watcher.want(usize::MAX);
        watcher.leg(Way::Portions).await.expect("it is up");
        assert!(watcher.closed);
        for way in WAYS {
            let fresh = Reader::read(&running, way, usize::MAX).await;
            assert_eq!((fresh.records, fresh.offset), (watcher.records.clone(), watcher.offset.clone()), "{way:?}");
        }
        let behind = http().get(format!("{}?offset={lost}", running.url()));
        let problem = answer(behind, &[410]).await.expect("it is up").text().await.expect("a whole answer");
        assert!(problem.contains("offset-of-another-epoch"), "{problem}");
        // What the backup does not know was never asked for.
        let gone = http().get(format!("http://{address}/v1/calls/{}", id(&later)));
        answer(gone, &[404]).await.expect("it is up");
        let (anew, replayed) = keyed(&address, "failing", "later").await;
        assert!(!replayed && anew.path() != later.path());
        ended(&address, id(&anew)).await;
        let ran = fs::read_to_string(at("ran")).unwrap();
        assert_eq!(ran.lines().collect::<Vec<_>>(), [&failed, &running, &later, &anew].map(id), "each once");
        let all = answer(http().get(format!("http://{address}/v1/calls")), &[200]).await.expect("it is up");
        let all: Value = serde_json::from_str(&all.text().await.expect("a whole answer")).expect("JSON");
        let mut ids: Vec<_> = [&failed, &running, &anew].map(|call| Value::from(id(call))).into();
        ids.reverse(); // The newest come first.
        assert_eq!(
            all["calls"].as_array().expect("calls").iter().map(|call| call["id"].clone()).collect::<Vec<_>>(),
            ids
        );
    });
}
