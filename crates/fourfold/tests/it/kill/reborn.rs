//! A stream that is deleted and created again: its former lives' offsets are refused, whatever the server went through.

use tokio::time::sleep;

use crate::{
    reader::{AGAIN, Target, answer, header, http, position},
    writer::{Enough, Fate, Post, create},
};

/// An offset of a life that is over.
pub(super) struct Former {
    target: Target,
    offset: String,
}

const RECORDS_A_LIFE: usize = 3;

/// Lives until it is enough, once at least, and then once more.
pub(super) async fn reborn(target: Target, enough: Enough) -> Vec<Former> {
    let http = http();
    let mut former: Vec<Former> = Vec::new();
    while former.is_empty() || !enough.said() {
        create(&target).await;
        let mut last = None;
        for seq in (0..).take(RECORDS_A_LIFE) {
            let body = target.kind.body(&[target.kind.record("life", seq)]);
            let (Fate::At(next) | Fate::Before(next)) =
                Post::new(&http, &target, body).by("life", seq).send_until_answered().await
            else {
                unreachable!("it was answered")
            };
            last = Some(next);
        }
        let offset = last.expect("every life has records");
        assert_eq!(position(&offset), RECORDS_A_LIFE, "a new life begins at its start");
        assert!(former.last().is_none_or(|former| former.offset < offset), "later lives' offsets sort later");
        // 404: deleted by a request whose answer was cut.
        while answer(http.delete(target.url()), &[204, 404]).await.is_err() {
            sleep(AGAIN).await;
        }
        former.push(Former { target: target.clone(), offset });
    }
    create(&target).await;
    former
}

/// Every offset of every former life is refused and says where the present one begins.
pub(super) async fn check(former: &[Former]) {
    let http = http();
    for Former { target, offset } in former {
        for live in ["", "&live=long-poll", "&live=sse"] {
            let url = format!("{}?offset={offset}{live}", target.url());
            let refusal = answer(http.get(url), &[410]).await.expect("it is up").text().await.expect("a body");
            let refusal: serde_json::Value = serde_json::from_str(&refusal).expect("a problem");
            assert_eq!(refusal["code"], "offset-of-another-epoch");
            let oldest = refusal["oldestOffset"].as_str().expect("where to go on");
            let answer = answer(http.get(format!("{}?offset={oldest}", target.url())), &[200]).await.expect("it is up");
            assert_eq!(header(&answer, "Stream-Next-Offset"), Some(oldest), "the present life is empty");
        }
    }
}
