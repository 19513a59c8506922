//! Echoes every WebSocket message, over the same code as the server: what the Autobahn suite is pointed at.
//!
//! `autobahn_echo 127.0.0.1:9001` prints `listening on ws://127.0.0.1:9001` and serves until it is killed. Port 0 takes
//! a free one. `tests/autobahn/run` builds, starts and judges it.

use std::{env, io, net::SocketAddr};

use bytes::Bytes;
use fourfold_protocol::{
    Code, Refusal,
    websocket::{Event, SharedFrame},
};
use fourfold_server::websocket::{Handshake, Socket};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// The longest message, in bytes: four times the longest of the suite.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let [address] = env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| usage())?;
    let address: SocketAddr = address.parse().map_err(|_| usage())?;
    let listener = TcpListener::bind(address).await?;
    tell(listener.local_addr()?);
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => drop(tokio::spawn(serve(tcp))),
            Err(_) => tokio::task::yield_now().await, // Of that one connection; the others go on.
        }
    }
}

fn usage() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "give one argument, the address to listen on, as in 127.0.0.1:9001")
}

#[expect(clippy::print_stdout, reason = "whoever started it waits for this line")]
fn tell(address: SocketAddr) {
    println!("listening on ws://{address}");
}

async fn serve(tcp: TcpStream) {
    let _ = tcp.set_nodelay(true); // Without it echoes are late, not wrong.
    let connection = http1::Builder::new().serve_connection(TokioIo::new(tcp), service_fn(answer));
    let _ = connection.with_upgrades().await; // A client that breaks HTTP has been told so, or is gone.
}

async fn answer(mut request: Request<Incoming>) -> http::Result<Response<Full<Bytes>>> {
    let handshake = match handshake(&request) {
        Ok(handshake) => handshake,
        Err(refusal) => return Response::builder().status(refusal.code.status()).body(refusal.to_string().into()),
    };
    let mut switching = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, &handshake.accept);
    if let Some(agreed) = handshake.agreed {
        switching = switching.header(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::try_from(agreed.to_string())?);
    }
    let upgrade = upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let parts = upgraded.downcast::<TokioIo<TcpStream>>().expect("every connection is served on a TcpStream");
            let tcp = parts.io.into_inner();
            let _ = echo(Socket::new(tcp, parts.read_buf, handshake.agreed, MESSAGE_BYTES_MAX)).await;
        }
    });
    switching.body(Full::default())
}

fn handshake(request: &Request<Incoming>) -> Result<Handshake, Refusal> {
    if !Handshake::is_wanted(request) {
        return Err(Refusal::new(Code::UpgradeRequired, "only WebSockets are echoed"));
    }
    Handshake::read(request)
}

/// Errors: the client is gone.
async fn echo(mut socket: Socket) -> io::Result<()> {
    loop {
        let frame = match socket.event().await? {
            Ok(Event::Text(text)) => SharedFrame::text(text.as_bytes()),
            Ok(Event::Binary(data)) => SharedFrame::binary(&data),
            Ok(event) => {
                if socket.answer(&event).await? {
                    socket.hang_up().await;
                    return Ok(());
                }
                continue;
            }
            Err(broken) => {
                socket.close(broken.close_code()).await;
                return Ok(());
            }
        };
        socket.write(socket.encode(&frame)).await?;
    }
}
