//! The way in: create, append, close, delete. Spec: "Create Stream", "Append to Stream", "Close Stream", "Delete Stream".

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use fourfold_access::Who;
use fourfold_protocol::Kind;
use fourfold_protocol::{
    Code, Refusal, Start, StreamName,
    message::SAFE_INTEGER_MAX,
    record::{is_content_type, same_content_type, split},
};
use fourfold_stream::{
    Append, AppendError, Appended, Create, CreateError, ForkError, ForkWish, Producer, Retention, Stream,
};
use http::{HeaderName, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::{
    access::host,
    answer::{self, Answer},
    budget::{self, Taken},
    call::calls_only,
    context::{Context, gone, not_found, unavailable},
    h2_room::Place,
    limits::{PRODUCER_ID_BYTES_MAX, TTL_SECONDS_MAX},
    quota,
    routes::STREAMS,
    timestamp,
    trace::Trace,
};

/// A request's body.
pub(crate) enum Body {
    /// It came with the head, and is no longer than is taken.
    Whole(Bytes),
    /// It has not been read yet.
    Incoming { body: Incoming, bytes_max: usize, wait_max: Duration, place: Option<Place> },
}

impl Body {
    /// That of the request with this head, still to be read.
    pub(crate) fn incoming(parts: &Parts, body: Incoming, bytes_max: usize, context: &Context) -> Self {
        let place = parts.extensions.get::<Place>().cloned();
        Self::Incoming { body, bytes_max, wait_max: context.settings.body_wait_max, place }
    }

    /// All of it. Errors: [`Code::BodyTooLarge`], at once if its length is announced; [`Code::RequestTimeout`]; a broken body.
    pub(crate) async fn read(self) -> Result<Bytes, Refusal> {
        match self {
            Self::Whole(body) => Ok(body),
            // Boxed, so that the many whose body is here already do not carry what waits for one.
            Self::Incoming { body, bytes_max, wait_max, place } => {
                Box::pin(Self::wait(body, bytes_max, wait_max, place)).await
            }
        }
    }

    async fn wait(
        incoming: Incoming,
        bytes_max: usize,
        wait_max: Duration,
        place: Option<Place>,
    ) -> Result<Bytes, Refusal> {
        let too_large = || {
            Refusal::new(
                Code::BodyTooLarge,
                format!("at most {bytes_max} bytes are taken at once: append in several requests"),
            )
            .with("bytesMax", bytes_max)
        };
        if hyper::body::Body::size_hint(&incoming).lower() > bytes_max as u64 {
            return Err(too_large());
        }
        let mut held = (budget::of_bodies(), place.as_ref().map(Place::coming));
        match timeout(wait_max, gathered(Limited::new(incoming, bytes_max), &mut held)).await {
            Ok(Ok(body)) => {
                if let Some(place) = place {
                    place.has_body(body.len()).await; // Until then it is still counted as one that is under way.
                }
                Ok(body)
            }
            Ok(Err(Unread::NoRoom { max, place })) => {
                let detail =
                    format!("{max} bytes of bodies are under way {place}already: nothing was done; come back later");
                Err(Refusal::new(Code::Overloaded, detail)
                    .with("limit", "bodies-max")
                    .with("max", max)
                    .with("retryAfter", fastrand::u64(1..=3)))
            }
            Ok(Err(Unread::Broken(e))) if e.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(Unread::Broken(e))) => {
                Err(Refusal::new(Code::BadRequest, format!("the body broke off or is not framed as announced: {e}")))
            }
            Err(_) => {
                let seconds = wait_max.as_secs_f32();
                Err(Refusal::new(
                    Code::RequestTimeout,
                    format!("the body did not arrive within {seconds} s: nothing was appended"),
                ))
            }
        }
    }
}

/// Why a body is not whole.
enum Unread {
    NoRoom {
        max: usize,
        /// Where, with a space behind it.
        place: &'static str,
    },
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

/// All of a body, copied out of the read buffers, which are larger than what is in them.
async fn gathered(
    mut incoming: Limited<Incoming>,
    (of_all, here): &mut (Taken, Option<Taken>),
) -> Result<Bytes, Unread> {
    let mut body = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame.map_err(Unread::Broken)?.into_data() else { continue };
        let bytes = body.len() + data.len();
        if let Some(here) = here
            && !here.reach(bytes)
        {
            return Err(Unread::NoRoom { max: here.max(), place: "on this connection " });
        }
        if !of_all.reach(bytes) {
            return Err(Unread::NoRoom { max: of_all.max(), place: "" });
        }
        body.extend_from_slice(&data);
    }
    Ok(body.freeze())
}

pub(crate) async fn put(
    parts: &Parts,
    body: Body,
    name: &StreamName,
    who: &Who,
    context: &Context,
) -> Result<Answer, Refusal> {
    if name.is_call() {
        return Err(calls_only());
    }
    let fork = fork(parts)?;
    let ttl_seconds = number(parts, &answer::STREAM_TTL)?;
    if ttl_seconds.is_some_and(|ttl| ttl > TTL_SECONDS_MAX) {
        return Err(Refusal::new(Code::InvalidHeader, format!("Stream-TTL is at most {TTL_SECONDS_MAX} seconds")));
    }
    let expires_at_ms = match text(parts, &answer::STREAM_EXPIRES_AT)? {
        None => None,
        Some(at) => Some(timestamp::parse(at).ok_or_else(|| {
            Refusal::new(
                Code::InvalidHeader,
                "Stream-Expires-At is an RFC 3339 timestamp, such as 2030-01-01T00:00:00Z",
            )
        })?),
    };
    if ttl_seconds.is_some() && expires_at_ms.is_some() {
        return Err(Refusal::new(Code::InvalidHeader, "Stream-TTL and Stream-Expires-At exclude each other: give one"));
    }
    let given = content_type(parts)?;
    let mut content_type = given.map_or("application/octet-stream", |given| given).to_owned();
    let wish = Create {
        records: Vec::new(),
        content_type: String::new(),
        ttl_seconds,
        expires_at_ms,
        retention: Retention {
            age_seconds: number(parts, &answer::STREAM_RETENTION_AGE)?,
            bytes: number(parts, &answer::STREAM_RETENTION_BYTES)?,
            records: number(parts, &answer::STREAM_RETENTION_RECORDS)?,
        },
        closed: says_closed(parts),
        fork,
        note: quota::note(who),
    };
    let body = body.read().await?;
    if let Some(fork) = wish.fork.as_ref().filter(|_| given.is_none()) {
        // Only a body needs to know; the engine goes by its own look at the source.
        content_type = if body.is_empty() {
            String::new()
        } else {
            context.engine.open(&fork.from).await.map_or_else(|_| String::new(), |s| s.config().content_type.clone())
        };
    }
    // An empty body is no record, also where an empty text would not be JSON.
    let records = if body.is_empty() { Vec::new() } else { split(Kind::of(&content_type), &body)? };
    context.limits.sizes(&records)?;
    context.quota.has_room()?;
    let bytes = bytes_of(&records);
    let creating = context.quota.create(who, name, bytes, &*context.engine, &context.limits.options()).await?;
    let wish = Create { records, content_type, ..wish };
    let created = context.engine.create(name, wish).await;
    match &created {
        Ok(created) if created.fresh => creating.made(),
        _ => creating.give_back(),
    }
    let created = created.map_err(|e| not_created(e, name))?;
    let stream = &created.stream;
    let tail = stream.tail();
    let location = location(parts, name, context);
    let mut parts = answer::head(if created.fresh { StatusCode::CREATED } else { StatusCode::OK });
    if created.fresh {
        answer::put(&mut parts, header::LOCATION, &location);
    }
    answer::put(&mut parts, header::CONTENT_TYPE, &stream.config().content_type);
    answer::put_next(&mut parts, stream.offset(tail.position));
    if tail.closed {
        answer::put(&mut parts, answer::STREAM_CLOSED, "true");
    }
    Ok(answer::empty(parts))
}

/// The stream that a creation wants to fork.
pub(crate) fn source(parts: &Parts) -> Result<Option<StreamName>, Refusal> {
    Ok(fork(parts)?.map(|fork| fork.from))
}

/// The fork that a creation asks for. Spec: "Stream forking".
fn fork(parts: &Parts) -> Result<Option<ForkWish>, Refusal> {
    let invalid = |detail: &str| Refusal::new(Code::InvalidHeader, detail);
    let (at, sub) = (text(parts, &answer::STREAM_FORK_OFFSET)?, number(parts, &answer::STREAM_FORK_SUB_OFFSET)?);
    let Some(from) = text(parts, &answer::STREAM_FORKED_FROM)? else {
        return match (at, sub) {
            (None, None) => Ok(None),
            _ => Err(invalid("Stream-Fork-Offset and Stream-Fork-Sub-Offset need Stream-Forked-From")),
        };
    };
    let from = from.strip_prefix(STREAMS).ok_or_else(|| {
        invalid("Stream-Forked-From is the path of a stream's URL on this server, such as /v1/stream/chat/7")
    })?;
    let from = StreamName::parse(from)?;
    let at = match at {
        None => None,
        Some(BEGINNING) => Some(Start::Oldest),
        Some(token) => Some(Start::parse(token).ok_or_else(|| {
            let detail = "Stream-Fork-Offset is an offset that the source has handed out, or '-1' for its start";
            Refusal::new(Code::InvalidOffset, detail)
        })?),
    };
    Ok(Some(ForkWish { from, at, sub: sub.unwrap_or(0) }))
}

/// What the protocol's other implementations call the start of every stream.
const BEGINNING: &str = "0000000000000000_0000000000000000";

fn not_created(error: CreateError, name: &StreamName) -> Refusal {
    match error {
        CreateError::Conflict(what) => Refusal::new(
            Code::StreamExists,
            format!("'{name}' exists with another {what}: use it as it is, delete it, or take another name"),
        ),
        CreateError::Gone => Refusal::new(
            Code::DeletedWithForks,
            format!(
                "'{name}' was deleted or has expired, and its forks keep the name: take another one, or delete them"
            ),
        ),
        CreateError::Fork(why) => not_forked(&why),
        CreateError::Unavailable(why) => unavailable(&why),
    }
}

fn not_forked(why: &ForkError) -> Refusal {
    let sentence = |code, advice: &str| Refusal::new(code, format!("{why}: {advice}"));
    match why {
        ForkError::NotFound => sentence(Code::StreamNotFound, "create it first, or fork another one"),
        ForkError::Gone => sentence(Code::DeletedWithForks, "fork one of its forks"),
        ForkError::ContentType(_) => sentence(Code::ContentTypeMismatch, "leave Content-Type out, or give that one"),
        ForkError::AnotherEpoch => sentence(Code::InvalidForkOffset, "use an offset that the source has handed out"),
        ForkError::PastTail { tail } => {
            sentence(Code::OffsetPastTail, "fork at an earlier place").with("streamNextOffset", tail.to_string())
        }
        ForkError::Trimmed { oldest } => {
            sentence(Code::OffsetTrimmed, "fork at oldestOffset or later").with("oldestOffset", oldest.to_string())
        }
        ForkError::SubOffset(_) => sentence(Code::InvalidForkOffset, "give a smaller Stream-Fork-Sub-Offset"),
        ForkError::TooDeep => sentence(Code::ForkTooDeep, "fork a stream nearer to the first one"),
    }
}

pub(crate) async fn post(
    parts: &Parts,
    body: Body,
    name: &StreamName,
    who: &Who,
    context: &Context,
) -> Result<Answer, Refusal> {
    begin(parts, body, name, who, context).await?.await
}

/// As [`post`], as far as the append's place in the order; what is left is its acknowledgement.
pub(crate) async fn begin(
    parts: &Parts,
    body: Body,
    name: &StreamName,
    who: &Who,
    context: &Context,
) -> Result<impl Future<Output = Result<Answer, Refusal>> + Send + use<>, Refusal> {
    let producer = producer(parts)?;
    let seq = text(parts, &answer::STREAM_SEQ)?.map(str::to_owned);
    if seq.as_ref().is_some_and(|seq| seq.len() > PRODUCER_ID_BYTES_MAX) {
        return Err(Refusal::new(Code::InvalidHeader, format!("Stream-Seq has at most {PRODUCER_ID_BYTES_MAX} bytes")));
    }
    let close = says_closed(parts);
    let stream = context.open(name).await?;
    let body = body.read().await?;
    let records = if body.is_empty() {
        if !close {
            let detail = "the body is empty: send records, or close the stream with 'Stream-Closed: true'";
            return Err(Refusal::new(Code::EmptyAppend, detail));
        }
        Vec::new()
    } else {
        match content_type(parts)? {
            None => {
                let detail = format!("send Content-Type: {}", stream.config().content_type);
                return Err(Refusal::new(Code::MissingContentType, detail));
            }
            // A closed stream refuses everything else first; the engine judges whether this is its closing append again.
            Some(_) if stream.tail().closed => vec![body],
            Some(given) if !same_content_type(given, &stream.config().content_type) => {
                let detail =
                    format!("the stream's content type is {}, the append's {given}", stream.config().content_type);
                return Err(Refusal::new(Code::ContentTypeMismatch, detail));
            }
            Some(_) => split(stream.kind(), &body)?,
        }
    };
    if records.is_empty() && !close {
        return Err(Refusal::new(Code::EmptyAppend, "the array is empty: append at least one record"));
    }
    let has_records = !records.is_empty();
    context.quota.look(who, &stream, bytes_of(&records), &*context.engine, &context.limits).await?;
    let wish = Append { records, producer, seq, close, ..Append::default() };
    let appending = append(&stream, wish, who, Trace::along(&parts.extensions), context);
    Ok(async move {
        let done = appending.await?;
        let is_new = done.producer.is_some() && !done.duplicate && has_records;
        let status = if is_new { StatusCode::OK } else { StatusCode::NO_CONTENT };
        let mut parts = answer::head(status);
        answer::put_next(&mut parts, stream.offset(done.next));
        if done.closed {
            answer::put(&mut parts, answer::STREAM_CLOSED, "true");
        }
        if let Some((epoch, seq)) = done.producer {
            answer::put(&mut parts, answer::PRODUCER_EPOCH, &epoch.to_string());
            answer::put(&mut parts, answer::PRODUCER_SEQ, &seq.to_string());
        }
        Ok(answer::empty(parts))
    })
}

pub(crate) async fn delete(name: &StreamName, context: &Context) -> Result<Answer, Refusal> {
    let stream = context.open(name).await?;
    let deleting = context.quota.delete(name, stream.config());
    context.engine.delete(&stream).await.map_err(|e| match e {
        fourfold_stream::OpenError::NotFound => not_found(name),
        fourfold_stream::OpenError::Gone => gone(name),
        fourfold_stream::OpenError::Unavailable(why) => unavailable(&why),
    })?;
    deleting.done();
    Ok(answer::empty(answer::head(StatusCode::NO_CONTENT)))
}

/// Appends, for every transport that can. The append takes its place in the order at once, before the future is polled.
pub(crate) fn append(
    stream: &Arc<Stream>,
    mut append: Append,
    who: &Who,
    trace: Trace,
    context: &Context,
) -> impl Future<Output = Result<Appended, Refusal>> + Send + use<> {
    let begun = Instant::now();
    let (records, bytes) = (append.records.len() as u64, bytes_of(&append.records));
    let judged = context.quota.has_room().or_else(|full| if append.records.is_empty() { Ok(()) } else { Err(full) });
    let judged = judged.and_then(|()| context.limits.batch(stream.meter(), &append.records));
    let pending = match judged.and_then(|()| context.quota.take(who, stream, bytes, &context.limits)) {
        Ok(room) => {
            let room = room.map(|room| (room, Arc::clone(&context.quota)));
            trace.asks(records, bytes, &mut append);
            Ok((stream.answer(context.shard, context.engine.append(stream, append)), room))
        }
        Err(refusal) => Err(refusal),
    };
    let (stream, tally) = (Arc::clone(stream), Arc::clone(&context.tally));
    async move {
        let (pending, room) = pending?;
        let appended = pending.await;
        if let Ok(appended) = &appended {
            trace.appended(appended);
        }
        if appended.as_ref().is_ok_and(|appended| !appended.duplicate) {
            tally.appended(records, bytes, u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
        } else if let Some((room, quota)) = room {
            quota.give_back(&room);
        }
        appended.map_err(|e| refused(e, &stream))
    }
}

/// How much is in them.
pub(crate) fn bytes_of(records: &[Bytes]) -> u64 {
    records.iter().map(Bytes::len).sum::<usize>() as u64
}

fn refused(error: AppendError, stream: &Stream) -> Refusal {
    let offset = |position| stream.offset(position).to_string();
    match error {
        AppendError::NotFound => not_found(stream.name()),
        AppendError::Closed { tail } => {
            Refusal::new(Code::StreamClosed, "the stream is closed: nothing can be appended any more")
                .with("streamClosed", "true")
                .with("streamNextOffset", offset(tail))
        }
        AppendError::SequenceRegression { last } => {
            Refusal::new(Code::SequenceRegression, format!("the last Stream-Seq was '{last}': send a greater one"))
        }
        AppendError::StaleEpoch { current } => Refusal::new(
            Code::StaleProducerEpoch,
            format!(
                "the producer's epoch is {current} now: another one has taken over; stop, or begin epoch {}",
                current + 1
            ),
        )
        .with("producerEpoch", current),
        AppendError::EpochStart => {
            Refusal::new(Code::InvalidProducerEpoch, "begin a new producer epoch with Producer-Seq 0")
        }
        AppendError::ProducerGap { expected, received } => {
            Refusal::new(Code::ProducerGap, format!("append {expected} is missing: send it before {received}"))
                .with("expectedSeq", expected)
                .with("receivedSeq", received)
        }
        AppendError::Unavailable(why) => unavailable(&why),
    }
}

/// The stream's URL as the client knows the server; a path where it did not say.
pub(crate) fn location(parts: &Parts, name: &StreamName, context: &Context) -> String {
    let path = format!("{STREAMS}{}", name.encoded());
    let says = |header: &str| parts.headers.get(header).and_then(|value| value.to_str().ok());
    let secure = says("x-forwarded-proto").map_or(context.settings.tls.is_some(), |scheme| scheme == "https");
    let scheme = if secure { "https" } else { "http" };
    host(&parts.uri, &parts.headers).map_or(path.clone(), |host| format!("{scheme}://{host}{path}"))
}

fn says_closed(parts: &Parts) -> bool {
    parts.headers.get(answer::STREAM_CLOSED).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"true"))
}

fn producer(parts: &Parts) -> Result<Option<Producer>, Refusal> {
    let id = text(parts, &answer::PRODUCER_ID)?;
    let (epoch, seq) = (text(parts, &answer::PRODUCER_EPOCH)?, text(parts, &answer::PRODUCER_SEQ)?);
    let (id, epoch, seq) = match (id, epoch, seq) {
        (None, None, None) => return Ok(None),
        (Some(id), Some(epoch), Some(seq)) => (id, epoch, seq),
        _ => {
            let detail = "Producer-Id, Producer-Epoch and Producer-Seq go together: send all three or none";
            return Err(Refusal::new(Code::InvalidHeader, detail));
        }
    };
    if id.is_empty() || id.len() > PRODUCER_ID_BYTES_MAX {
        let detail = format!("Producer-Id has from 1 to {PRODUCER_ID_BYTES_MAX} bytes");
        return Err(Refusal::new(Code::InvalidHeader, detail));
    }
    let integer = |name: &str, text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits
            .then(|| text.parse().ok())
            .flatten()
            .filter(|n| *n <= SAFE_INTEGER_MAX)
            .ok_or_else(|| Refusal::new(Code::InvalidHeader, format!("{name} is an integer from 0 to 2^53-1")))
    };
    Ok(Some(Producer {
        id: id.to_owned(),
        epoch: integer("Producer-Epoch", epoch)?,
        seq: integer("Producer-Seq", seq)?,
    }))
}

fn content_type(parts: &Parts) -> Result<Option<&str>, Refusal> {
    let Some(given) = text(parts, &header::CONTENT_TYPE)?.filter(|given| !given.is_empty()) else { return Ok(None) };
    if !is_content_type(given) {
        return Err(Refusal::new(Code::InvalidHeader, "Content-Type is a media type, such as application/json"));
    }
    Ok(Some(given))
}

/// A plain decimal without sign or leading zeros, as the protocol wants for `Stream-TTL`.
fn number(parts: &Parts, name: &HeaderName) -> Result<Option<u64>, Refusal> {
    let Some(text) = text(parts, name)? else { return Ok(None) };
    let plain = text == "0" || (!text.starts_with('0') && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    match text.parse() {
        Ok(number) if plain => Ok(Some(number)),
        _ => Err(Refusal::new(Code::InvalidHeader, format!("{name} is a plain decimal, such as 3600"))),
    }
}

/// A header that is there at most once, as text.
pub(crate) fn text<'a>(parts: &'a Parts, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = parts.headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::new(Code::InvalidHeader, format!("{name} is given twice: give it once")));
    }
    let text = value.to_str().map_err(|_| Refusal::new(Code::InvalidHeader, format!("{name} is not plain ASCII")))?;
    Ok(Some(text.trim()))
}
