//! A call is begun, and read on the request itself; a reader that is cut there goes on at the stream's URL.

use std::time::Duration;

use reqwest::{Client, Response};
use tokio::time::{sleep, timeout};

use super::{AGAIN, Cut, Reader, Target, answer, header, long_poll, portions, sse};
use crate::{harness::DEADLINE, records::Kind};

/// How the request that begins a call goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Not at all.
    Plain,
    Sse,
    /// Long poll for the first records.
    LongPoll,
    /// Long poll in portions.
    Portions,
    /// `Prefer: wait`.
    Wait,
}

/// All of them.
pub(crate) const FORMS: [Form; 5] = [Form::Plain, Form::Sse, Form::LongPoll, Form::Portions, Form::Wait];

/// A wish to begin a call.
#[derive(Clone)]
pub(crate) struct Begun<'a> {
    pub(crate) http: &'a Client,
    pub(crate) address: &'a str,
    pub(crate) name: &'a str,
    /// The idempotency key.
    pub(crate) key: &'a str,
    pub(crate) body: &'a str,
    pub(crate) kind: Kind,
}

impl Begun<'_> {
    /// The answer's head, as soon as there is one: where the call is, and whether it was there before.
    async fn ask(&self, form: Form) -> Result<Response, Cut> {
        let url = format!("http://{}/v1/call/{}", self.address, self.name);
        let request = match form {
            Form::Plain => self.http.post(url),
            Form::Sse => self.http.post(url + "?live=sse"),
            Form::LongPoll => self.http.post(url + "?live=long-poll&timeout=5"),
            Form::Portions => {
                self.http.post(url + "?live=long-poll&timeout=5").header("Accept", "application/x-ndjson")
            }
            Form::Wait => self.http.post(url).header("Prefer", "wait=30"),
        };
        let request = request.header("Idempotency-Key", self.key).timeout(DEADLINE);
        answer(request.body(self.body.to_owned()), &[201]).await
    }

    /// Which call it is, asked as often as it takes, and whether it was there before.
    pub(crate) async fn plainly(&self) -> (Target, bool) {
        loop {
            match self.ask(Form::Plain).await {
                Ok(answer) => return (self.target(&answer), header(&answer, "Idempotency-Replayed") == Some("true")),
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    /// Begins it and reads on the same request, cut after so long. `None`: cut before the head, which says where the call is.
    pub(crate) async fn read(&self, form: Form, patience: Duration) -> Option<Reader> {
        let answer = timeout(patience, self.ask(form)).await.ok()?.ok()?;
        let mut reader = Reader::new(&self.target(&answer));
        let read = async {
            match form {
                Form::Plain => Ok(()),
                Form::Sse => sse::read(&mut reader, answer).await,
                Form::LongPoll | Form::Wait => long_poll::read(&mut reader, answer).await,
                Form::Portions => portions::read(&mut reader, answer).await,
            }
        };
        let _ = timeout(patience, read).await; // Cut here, by the server or not at all: the reader has what it has.
        Some(reader)
    }

    fn target(&self, answer: &Response) -> Target {
        let id = header(answer, "Call-Id").expect("every call has one");
        let stream = format!("calls/{id}");
        let location = header(answer, "Location").expect("every call has one");
        assert_eq!(location, format!("http://{}/v1/stream/{stream}", self.address));
        Target { address: self.address.to_owned(), stream, kind: self.kind }
    }
}
