//! What a client appends on its WebSocket: judged one by one, acknowledged in the order in which it came.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context as Waker, Poll},
};

use fourfold_access::{Verb, Who};
use fourfold_protocol::{Code, Refusal, message, websocket};
use fourfold_stream::{Appended, Stream};

use crate::{
    call,
    caller::Caller,
    context::Context,
    limits::PRODUCER_ID_BYTES_MAX,
    publish, refusals,
    tally::Tally,
    trace::{HandedOver, Trace},
};

pub(super) type Answering = Pin<Box<dyn Future<Output = Result<Appended, Refusal>> + Send>>;

/// Whether a message may append; one that is none has its own refusal. Counted first: whoever is refused has asked, too.
pub(super) async fn admit(
    request: Option<&message::Request>,
    stream: &Stream,
    who: &Who,
    caller: &Caller,
    context: &Context,
) -> Result<(), Refusal> {
    let Context { limits, quota, engine, settings, .. } = context;
    limits.append(caller)?;
    let Some(request) = request else { return Ok(()) };
    if !settings.access.is_open() {
        // By the rules of now, also if there were none when the connection began.
        settings.access.judge(who, Verb::Append, stream.name().as_str(), caller.address()).await?;
    }
    if stream.name().is_call() {
        return Err(call::calls_only());
    }
    if request.producer.as_ref().is_some_and(|(id, ..)| id.len() > PRODUCER_ID_BYTES_MAX) {
        let detail = format!("a producer's id has at most {PRODUCER_ID_BYTES_MAX} bytes");
        return Err(Refusal::new(Code::InvalidMessage, detail));
    }
    limits.token_append(who.key())?;
    quota.look(who, stream, publish::bytes_of(&request.records), &**engine, limits).await
}

/// Appends in the order in which they came, each with the client's name for it. At most [`APPENDS_UNACKNOWLEDGED_MAX`](crate::limits::APPENDS_UNACKNOWLEDGED_MAX).
pub(super) struct Appends {
    stream: Arc<Stream>,
    tally: Arc<Tally>,
    peer: Option<IpAddr>,
    pub(super) waiting: VecDeque<(String, Trace, Answering)>,
    pub(super) handed_over: HandedOver,
}

impl Appends {
    /// `peer` is who sends them.
    pub(super) fn of(stream: Arc<Stream>, tally: Arc<Tally>, peer: Option<IpAddr>) -> Self {
        Self { stream, tally, peer, waiting: VecDeque::new(), handed_over: HandedOver::default() }
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
                    refusals::of_message(&refusal, self.stream.name(), self.peer, &self.tally);
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
