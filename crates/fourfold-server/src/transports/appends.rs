//! What a client appends on its WebSocket: judged one by one, acknowledged in the order in which it came.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context as Waker, Poll},
};

use bytes::Bytes;
use fourfold_access::Who;
use fourfold_protocol::{Refusal, message, websocket};
use fourfold_stream::{Appended, Stream};

use crate::{
    caller::Caller,
    context::Context,
    publish,
    tally::Tally,
    trace::{HandedOver, Trace},
};

pub(super) type Answering = Pin<Box<dyn Future<Output = Result<Appended, Refusal>> + Send>>;

/// Counts an append. Errors: there were too many, or there is too much already.
pub(super) async fn counted(
    stream: &Stream,
    records: &[Bytes],
    who: &Who,
    caller: &Caller,
    context: &Context,
) -> Result<(), Refusal> {
    let Context { limits, quota, engine, .. } = context;
    limits.append(caller)?;
    limits.token_append(who.key())?;
    quota.look(who, stream, publish::bytes_of(records), &**engine, limits).await
}

/// Appends in the order in which they came, each with the client's name for it. At most [`APPENDS_UNACKNOWLEDGED_MAX`](crate::limits::APPENDS_UNACKNOWLEDGED_MAX).
pub(super) struct Appends {
    stream: Arc<Stream>,
    tally: Arc<Tally>,
    pub(super) waiting: VecDeque<(String, Trace, Answering)>,
    pub(super) handed_over: HandedOver,
}

impl Appends {
    pub(super) fn of(stream: Arc<Stream>, tally: Arc<Tally>) -> Self {
        Self { stream, tally, waiting: VecDeque::new(), handed_over: HandedOver::default() }
    }

    /// The answers that are due, in order, as frames behind each other.
    pub(super) fn poll(&mut self, cx: &mut Waker<'_>) -> Poll<Vec<u8>> {
        let mut frames = Vec::new();
        while let Some((id, trace, pending)) = self.waiting.front_mut() {
            let Poll::Ready(result) = pending.as_mut().poll(cx) else { break };
            trace.answered_by_message(&result);
            self.handed_over.soon_by_message(std::mem::take(trace));
            let answer = match result {
                Ok(done) => message::ack(id, self.stream.offset(done.next), done.closed, done.duplicate),
                Err(refusal) => {
                    self.tally.refused(refusal.code);
                    message::error(id, &refusal)
                }
            };
            frames.extend_from_slice(&websocket::text(answer.as_bytes()));
            self.waiting.pop_front();
        }
        if frames.is_empty() { Poll::Pending } else { Poll::Ready(frames) }
    }
}

/// Completes when an answer is due; never without appends. Cancel-safe: what was polled stays in the queue.
pub(super) async fn next_answers(appends: Option<&mut Appends>) -> Vec<u8> {
    match appends {
        Some(appends) => poll_fn(|cx| appends.poll(cx)).await,
        None => std::future::pending().await,
    }
}
