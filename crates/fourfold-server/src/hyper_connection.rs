//! A connection that hyper speaks HTTP on: requests in pieces, with large bodies, of unusual methods, or simply wrong.
//!
//! A live read ends it: the service fails on purpose, hyper writes nothing and is dropped with its buffers.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Instant, sleep_until};

use crate::{
    answer, budget,
    caller::{Caller, Connected},
    connection::Reply,
    context::{Context, Seat},
    limits::{HEAD_BUFFER_BYTES, HEADERS_MAX},
    line, refusals, request, routes,
    socket::Socket,
    tally::Way,
    transports::Live,
    wire::{Wire, not_http},
};

/// Spawns a task that serves HTTP on a socket; `unread` is what was read from it before, of a head that is to be whole by `head_by`.
pub(crate) fn spawn(socket: Socket, unread: Bytes, head_by: Instant, context: Arc<Context>, mut seat: Seat) {
    seat.becomes(Way::Http, &context.tally);
    // Boxed as a named type: portions come back to a connection that may come here, and a future cannot contain itself.
    let task: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(serve(socket, unread, head_by, context, seat));
    tokio::spawn(task);
}

/// The service's word to hyper that the socket is ours now; hyper writes nothing for it.
#[derive(Debug, thiserror::Error)]
#[error("a live read takes the socket over")]
struct TakenOver;

/// For whom a proxy has asked, and its place among their connections.
type Holding = (Arc<Caller>, Connected);

async fn serve(socket: Socket, unread: Bytes, head_by: Instant, context: Arc<Context>, mut seat: Seat) {
    let taken = Arc::new(Mutex::new(None::<(Box<Live>, Option<Holding>)>));
    let (wire, exchange) = Wire::new(socket, unread, budget::stall_wait());
    let wire = wire.judged_by({
        let (context, peer) = (Arc::clone(&context), Arc::clone(seat.peer()));
        move |refusal| {
            // For whom a proxy asks cannot be read.
            let judged = if peer.is_proxy() { Ok(()) } else { context.limits.request(&peer) };
            let refusal = judged.err().unwrap_or(refusal);
            context.tally.refused(refusal.code);
            refusal
        }
    });
    let service = {
        let (taken, context, exchange) = (Arc::clone(&taken), Arc::clone(&context), Arc::clone(&exchange));
        let peer = Arc::clone(seat.peer());
        service_fn(move |mut request: Request<Incoming>| {
            exchange.request();
            let (taken, context, exchange) = (Arc::clone(&taken), Arc::clone(&context), Arc::clone(&exchange));
            let caller = context.limits.caller_of(request.headers(), &peer);
            let is_behind = peer.is_proxy();
            Box::pin(async move {
                let told = refusals::Told::of(&mut request, &caller, &context);
                let reply = match request::admit(&request, &caller, &context) {
                    Ok(()) => routes::answer(request, caller.address(), &context).await,
                    Err(refusal) => refusal.into(),
                };
                let (reply, holding) = match reply {
                    Reply::Live(live) if is_behind => match context.limits.connect(&caller) {
                        Ok(held) => (Reply::Live(live), Some((caller, held))),
                        Err(refusal) => (refusal.into(), None),
                    },
                    other => (other, None),
                };
                let mut reply = match reply {
                    Reply::Appending(answering) => Reply::Whole(answering.await),
                    other => other,
                };
                told.answered(&mut reply, &context.tally);
                match reply {
                    Reply::Appending(_) => unreachable!("it was awaited above"),
                    Reply::Whole(mut answer) => {
                        exchange.answered();
                        answer::add_common(answer.headers_mut());
                        if context.drain.begun() {
                            answer.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
                        }
                        Ok(answer.map(Full::new))
                    }
                    Reply::Live(live) => {
                        *taken.lock().expect("nobody panics while it holds the slot") = Some((live, holding));
                        Err(TakenOver)
                    }
                }
            })
        })
    };
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new()) // without it the next line is silently off
        .header_read_timeout(context.settings.head_wait_max)
        .max_buf_size(HEAD_BUFFER_BYTES)
        .max_headers(HEADERS_MAX)
        .half_close(true);
    let mut connection = builder.serve_connection(TokioIo::new(wire), service);
    let ended = {
        // hyper's own timer begins anew here, and the client's time has begun before.
        let mut first_head = pin!(sleep_until(head_by));
        let mut beginning = pin!(context.drain.beginning.notified());
        beginning.as_mut().enable();
        let mut draining = context.drain.begun();
        if draining {
            Pin::new(&mut connection).graceful_shutdown();
        }
        std::future::poll_fn(|cx| {
            if !draining && beginning.as_mut().poll(cx).is_ready() {
                draining = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            let ended = connection.poll_without_shutdown(cx);
            if ended.is_pending() && !exchange.has_begun() {
                return first_head.as_mut().poll(cx).map(Ok);
            }
            ended
        })
        .await
    };
    let parts = connection.into_parts();
    let wire = parts.io.into_inner();
    // hyper says nothing to HTTP/2.
    let is_garbage = ended.is_err_and(|e| e.is_parse()) && !wire.refused;
    let last_words = is_garbage.then(|| wire.last_words(not_http()));
    let socket = wire.socket;
    // Whatever ended it, a live read that was asked for is in the slot, and else the connection is over.
    let live = taken.lock().expect("nobody panics while it holds the slot").take();
    match live {
        Some((live, holding)) => {
            if let Some((caller, held)) = holding {
                seat.held_for(caller, held);
            }
            // Copied, because even an empty rest would keep hyper's whole read buffer alive.
            let unread = Bytes::copy_from_slice(&parts.read_buf);
            (*live).spawn(socket, unread, context, seat);
        }
        None => {
            if let Some(last_words) = last_words {
                let _ = line::write_all(&socket, last_words).await;
            }
            line::close(socket).await;
        }
    }
}
