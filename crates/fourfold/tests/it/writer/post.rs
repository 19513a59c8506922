//! Appends by `POST`, with a producer that repeats itself until it is answered, and without.

use tokio::time::sleep;

use super::{Account, Batch, Enough, Fate, records};
use crate::{
    reader::{AGAIN, Cut, Target, answer, header, http},
    seeded::Seeded,
};

/// An append that has not been sent.
pub(crate) struct Post<'a> {
    target: &'a Target,
    request: reqwest::RequestBuilder,
}

impl<'a> Post<'a> {
    pub(crate) fn new(http: &reqwest::Client, target: &'a Target, body: String) -> Self {
        let request = http.post(target.url()).header("Content-Type", target.kind.content_type()).body(body);
        Self { target, request }
    }

    pub(crate) fn by(self, producer: &str, seq: u64) -> Self {
        let request = self
            .request
            .header("Producer-Id", producer)
            .header("Producer-Epoch", "0")
            .header("Producer-Seq", seq.to_string());
        Self { request, ..self }
    }

    pub(crate) fn closing(self) -> Self {
        Self { request: self.request.header("Stream-Closed", "true"), ..self }
    }

    /// Once. 204 means a duplicate with a producer, and new without.
    pub(crate) async fn send(&self) -> Result<(u16, String), Cut> {
        let request = self.request.try_clone().expect("the body is at hand");
        let answer = answer(request, &[200, 204]).await?;
        let next = header(&answer, "Stream-Next-Offset").unwrap_or_else(|| panic!("no offset: {}", self.target.url()));
        Ok((answer.status().as_u16(), next.to_owned()))
    }

    /// Until it is answered.
    pub(crate) async fn send_until_answered(&self) -> Fate {
        loop {
            match self.send().await {
                Ok((200, next)) => return Fate::At(next),
                Ok((_, next)) => return Fate::Before(next),
                Err(Cut(_)) => sleep(AGAIN).await,
            }
        }
    }
}

/// Until it is there.
pub(crate) async fn create(target: &Target) {
    let http = http();
    let request = http.put(target.url()).header("Content-Type", target.kind.content_type());
    while answer(request.try_clone().expect("there is no body"), &[200, 201]).await.is_err() {
        sleep(AGAIN).await;
    }
}

/// An idempotent producer: each record is there once in the end. When it is enough, and nobody else writes any more, it
/// closes the stream with its last append.
pub(crate) async fn producer(target: Target, writer: &str, mut chance: Seeded, alone: Enough) -> Account {
    let (http, mut account) = (http(), Account::new(writer));
    for seq in 0.. {
        let numbers = account.next(&mut chance, target.kind.body_records_max());
        let body = target.kind.body(&records(target.kind, writer, &numbers));
        let mut post = Post::new(&http, &target, body).by(writer, seq);
        let closes = alone.said();
        if closes {
            post = post.closing();
        }
        let fate = post.send_until_answered().await;
        account.batches.push(Batch { numbers, fate });
        if closes {
            break;
        }
        sleep(chance.pause(0..10)).await;
    }
    account
}

/// Repeats nothing: what it was not told about may be there or not.
pub(crate) async fn plain(target: Target, writer: &str, mut chance: Seeded, enough: Enough) -> Account {
    let (http, mut account) = (http(), Account::new(writer));
    while !enough.said() {
        let numbers = account.next(&mut chance, target.kind.body_records_max());
        let body = target.kind.body(&records(target.kind, writer, &numbers));
        let fate = match Post::new(&http, &target, body).send().await {
            Ok((_, next)) => Fate::At(next),
            Err(Cut(_)) => Fate::Unknown,
        };
        let pause = if fate == Fate::Unknown { AGAIN } else { chance.pause(0..10) };
        account.batches.push(Batch { numbers, fate });
        sleep(pause).await;
    }
    account
}
