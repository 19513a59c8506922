//! A connection that hyper speaks HTTP/2 on: on TLS where both agree, and without it from this machine to itself.
//!
//! Each request is a stream with a task of its own. A live read is the body of an answer here ([`h2_body`](crate::h2_body)): the cursor is read
//! when the client has room. WebSockets do not come this way (RFC 8441 is not offered): browsers open a connection of HTTP/1.1 for them.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use fourfold_protocol::{Code, Refusal};
use http::{HeaderValue, Method, Request, Response, header};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use crate::{
    alarm::Alarm,
    answer, budget,
    caller::Caller,
    connection::Reply,
    context::{Context, Seat},
    h2_body::Body,
    h2_patience::{self, Streams},
    h2_room::Room,
    limits::{
        H2_CONNECTION_WINDOW_BYTES, H2_FRAME_BYTES_MAX, H2_PONG_WAIT_MAX, H2_RESETS_MAX, H2_SEND_BUFFER_BYTES,
        H2_STREAM_WINDOW_BYTES, H2_STREAMS_MAX, HEAD_BUFFER_BYTES, HEADERS_MAX, LINGERING_CLOSE_MAX, PING,
    },
    refusals::Told,
    request, routes,
    socket::Socket,
    tally::Way,
    wire::Wire,
};

/// What a connection of HTTP/2 begins with. Spec: RFC 9113, "HTTP/2 Connection Preface".
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether these first bytes mean HTTP/2 without TLS, and may.
pub(crate) fn is_meant(unread: &[u8], socket: &Socket) -> bool {
    unread.starts_with(PREFACE) && socket.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback())
}

/// Spawns a task that serves HTTP/2 on a socket; `unread` is what was read from it before.
pub(crate) fn spawn(socket: Socket, unread: Bytes, context: Arc<Context>, mut seat: Seat) {
    seat.becomes(Way::Http, &context.tally);
    drop(tokio::spawn(serve(socket, unread, context, seat)));
}

async fn serve(socket: Socket, unread: Bytes, context: Arc<Context>, seat: Seat) {
    let room = Room::new(context.settings.body_bytes_max);
    let streams = Streams::new();
    let service = {
        let (context, peer) = (Arc::clone(&context), Arc::clone(seat.peer()));
        service_fn(move |request: Request<Incoming>| {
            let (context, room) = (Arc::clone(&context), room.clone());
            let caller = context.limits.caller_of(request.headers(), &peer);
            let is_behind = peer.is_proxy();
            let mut answering = Box::pin(async move { answer(request, &caller, is_behind, &context, &room).await });
            poll_fn(move |cx| {
                h2_patience::asked(); // Whatever it waits for, it is not for the client to take something.
                answering.as_mut().poll(cx).map(Ok::<_, Infallible>)
            })
        })
    };
    let (wire, _) = Wire::new(socket, unread, budget::stall_wait());
    let mut builder = http2::Builder::new(streams.clone());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS_MAX)
        .initial_stream_window_size(H2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(H2_CONNECTION_WINDOW_BYTES)
        .max_frame_size(H2_FRAME_BYTES_MAX)
        .max_send_buf_size(H2_SEND_BUFFER_BYTES)
        .max_header_list_size(u32::try_from(HEAD_BUFFER_BYTES).unwrap_or(u32::MAX)) // What is too much for us is parsed, and refused with an explanation.
        .max_pending_accept_reset_streams(H2_RESETS_MAX)
        .max_local_error_reset_streams(H2_RESETS_MAX)
        .keep_alive_interval(PING)
        .keep_alive_timeout(H2_PONG_WAIT_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(wire), service));
    let idle_max = context.settings.head_wait_max;
    let mut alarm = Alarm::new(idle_max);
    let mut beginning = pin!(context.drain.beginning.notified());
    beginning.as_mut().enable();
    let (mut draining, mut ending) = (false, false);
    poll_fn(|cx| {
        if !draining && (context.drain.begun() || beginning.as_mut().poll(cx).is_ready()) {
            draining = true;
            connection.as_mut().graceful_shutdown(); // Says GOAWAY; each reader is told goodbye on its stream.
        }
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection of HTTP/2 broke");
            }
            return Poll::Ready(());
        }
        while alarm.poll(cx).is_ready() {
            match streams.idle_since().map(|since| since + idle_max) {
                None => {
                    ending = false;
                    alarm.set(Instant::now() + idle_max);
                }
                Some(until) if until > Instant::now() => alarm.set(until),
                Some(_) if ending => return Poll::Ready(()), // It does not go by itself.
                Some(_) => {
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                    alarm.set(Instant::now() + LINGERING_CLOSE_MAX);
                    if connection.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(());
                    }
                }
            }
        }
        Poll::Pending
    })
    .await;
}

async fn answer(
    mut request: Request<Incoming>,
    caller: &Arc<Caller>,
    is_behind: bool,
    context: &Arc<Context>,
    room: &Room,
) -> Response<Body> {
    let is_head = request.method() == Method::HEAD;
    let place = room.enter(request.method()).await;
    request.extensions_mut().insert(place.clone());
    let told = Told::of(&mut request, caller, context);
    let reply = match check(request, caller, context) {
        Ok(request) => routes::answer(request, caller.address(), context).await,
        Err(refusal) => refusal.into(),
    };
    let (mut reply, held) = match reply {
        Reply::Appending(answering) => (Reply::Whole(answering.await), None),
        Reply::Live(live) if is_behind => match context.limits.connect(caller) {
            Ok(held) => (Reply::Live(live), Some(held)),
            Err(refusal) => (refusal.into(), None),
        },
        other => (other, None),
    };
    told.answered(&mut reply, &context.tally);
    let mut answer = match reply {
        Reply::Appending(_) => unreachable!("it was awaited above"),
        Reply::Whole(answer) => answer.map(Body::from),
        Reply::Live(live) => {
            drop(place.leave(0)); // From now on it is a cursor.
            let mut answer = live.on_a_stream(context, &place).await;
            answer.body_mut().hold(held);
            if let Some(part) = place.leave(answer.body().whole().unwrap_or(0)) {
                answer.body_mut().keep(part);
            }
            answer::add_common(answer.headers_mut());
            return answer;
        }
    };
    answer::add_common(answer.headers_mut());
    let bytes = answer.body().whole().unwrap_or(0);
    let part = place.leave(if is_head { 0 } else { bytes });
    if is_head {
        if bytes > 0 {
            answer.headers_mut().insert(header::CONTENT_LENGTH, bytes.into());
        }
        *answer.body_mut() = Body::from(Bytes::new());
    } else if let Some(part) = part {
        answer.body_mut().keep(part);
    }
    answer
}

/// A request as the rest of the server knows it, with its `Host`.
fn check(mut request: Request<Incoming>, caller: &Caller, context: &Context) -> Result<Request<Incoming>, Refusal> {
    if request.headers().len() > HEADERS_MAX {
        let detail = format!("there are more than {HEADERS_MAX} headers: send fewer");
        return Err(Refusal::new(Code::HeadersTooLarge, detail));
    }
    request::admit(&request, caller, context)?;
    let authority = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let Some(authority) = authority {
        request.headers_mut().insert(header::HOST, authority);
    }
    Ok(request)
}
