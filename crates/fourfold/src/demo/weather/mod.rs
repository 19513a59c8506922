//! Bad weather on request: a relay on loopback in front of the server, with the faults that each visitor asked for.
//!
//! ```text
//! browser ── /w/{token}/v1/stream/… ──► relay ── /v1/stream/… ──► server
//!                                         │ faults of {token}: may change at any time, also in mid-answer
//! ```
//!
//! A connection carries one request: the relay asks both sides to close behind the answer, so that nothing of HTTP has to be
//! understood but the head. A WebSocket is its head and then bytes.

mod faults;
mod head;
mod lane;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{Instant, sleep_until, timeout},
};

pub(super) use faults::{Faults, Visitors};
use head::Head;

/// Connections at once, all visitors together, also those that have not said yet what they want.
const CONNECTIONS_MAX: usize = 512;

/// How long a request head may take: browsers open connections before they have something to ask.
const HEAD_WAIT_MAX: Duration = Duration::from_secs(15);

/// How long the browser has to close its side after an answer.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// After a failed accept: long enough not to spin.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Relays what `listener` accepts to `server`, for ever.
pub(super) async fn serve(listener: TcpListener, server: SocketAddr, visitors: Arc<Visitors>) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Beyond the maximum new connections wait in the kernel.
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((client, _)) => {
                let visitors = Arc::clone(&visitors);
                tokio::spawn(async move {
                    // Whatever ends a connection, its client notices.
                    let _ = relay(client, server, &visitors).await;
                    drop(seat);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
}

async fn relay(mut client: TcpStream, server: SocketAddr, visitors: &Arc<Visitors>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let head = match timeout(HEAD_WAIT_MAX, Head::read(&mut client)).await {
        Ok(Ok(head)) => head,
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
            return refuse(client, "404 Not Found", "this relay knows /w/TOKEN/v1/stream/… only").await;
        }
        Ok(Err(error)) => return Err(error),
        Err(_) => return Ok(()),
    };
    let Some(seat) = visitors.enter(&head.token) else {
        return refuse(client, "503 Service Unavailable", "too many connections of this visitor").await;
    };
    let mut weather = seat.weather.clone();
    let faults = *weather.borrow_and_update();
    if faults.offline {
        return client.set_zero_linger();
    }
    if faults.block_websocket && head.is_websocket {
        return refuse(client, "403 Forbidden", "WebSockets are blocked here").await;
    }
    let mut upstream = TcpStream::connect(server).await?;
    upstream.set_nodelay(true)?;
    let cut = {
        let ((from_client, to_client), (mut from_server, to_server)) = (client.split(), upstream.split());
        let up = lane::carry(from_client, to_server, head.bytes, weather.clone(), false);
        let down = async {
            // A WebSocket's answer is its handshake, and stays as it is.
            let first = if head.is_websocket { Vec::new() } else { head::answer(&mut from_server).await? };
            lane::carry(from_server, to_client, first, weather.clone(), head.is_event_stream).await
        };
        tokio::select! {
            done = both(up, down) => { done?; false }
            () = struck(weather.clone(), head.is_websocket) => true,
        }
    };
    if cut {
        // A reset, as from a box that forgot the connection: what was on its way is gone.
        client.set_zero_linger()?;
    }
    Ok(())
}

/// Until the answer is over and the client has closed, or had time to.
async fn both(up: impl Future<Output = io::Result<()>>, down: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio::pin!(up, down);
    tokio::select! {
        ended = &mut down => {
            ended?;
            let _ = timeout(LINGER_MAX, up).await;
            Ok(())
        }
        ended = &mut up => {
            ended?;
            down.await
        }
    }
}

/// Completes when the faults say that a connection ends now.
async fn struck(mut weather: watch::Receiver<Faults>, is_websocket: bool) {
    let mut since = Instant::now();
    let mut cut_every = Duration::ZERO;
    loop {
        let faults = *weather.borrow_and_update();
        if faults.offline || (faults.block_websocket && is_websocket) {
            return;
        }
        if faults.cut_every() != cut_every {
            (since, cut_every) = (Instant::now(), faults.cut_every());
        }
        tokio::select! {
            changed = weather.changed() => if changed.is_err() { return },
            () = sleep_until(since + cut_every), if !cut_every.is_zero() => return,
        }
    }
}

async fn refuse(mut client: TcpStream, status: &str, why: &str) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nAccess-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n{why}",
        why.len()
    );
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await
}
