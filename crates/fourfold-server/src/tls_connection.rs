//! A connection that begins with TLS: the handshake, and then whoever speaks what was agreed on.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use fourfold_protocol::{Code, Refusal};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::rustls::ServerConfig;

use crate::{
    answer, connection,
    context::{Context, Seat},
    h2_connection,
    limits::TLS_HANDSHAKE_WAIT_MAX,
    line,
    socket::Socket,
    tally::Handshake,
    tls::H2,
    tls_socket::{NoTls, TlsSocket},
};

/// Spawns a task that shakes hands, and then starts the one that serves.
pub(crate) fn spawn(tcp: TcpStream, config: Arc<ServerConfig>, context: Arc<Context>, seat: Seat) {
    drop(tokio::spawn(serve(tcp, config, context, seat)));
}

async fn serve(tcp: TcpStream, config: Arc<ServerConfig>, context: Arc<Context>, seat: Seat) {
    let accepted = {
        let mut beginning = pin!(context.drain.beginning.notified());
        beginning.as_mut().enable();
        if context.drain.begun() {
            return;
        }
        tokio::select! {
            accepted = TlsSocket::accept(tcp, config, TLS_HANDSHAKE_WAIT_MAX) => accepted,
            () = beginning => return,
        }
    };
    context.tally.shook_hands(match &accepted {
        Ok(_) => Handshake::Done,
        Err(NoTls::PlainHttp(_)) => Handshake::PlainHttp,
        Err(NoTls::Failed(how, _)) => *how,
    });
    match accepted {
        Ok(tls) if tls.speaks(H2) => h2_connection::spawn(Socket::Tls(Box::new(tls)), Bytes::new(), context, seat),
        Ok(tls) => connection::spawn(Socket::Tls(Box::new(tls)), Bytes::new(), context, seat),
        Err(NoTls::PlainHttp(tcp)) => send_back(tcp.into()).await,
        Err(NoTls::Failed(how, error)) => {
            let peer = seat.caller().address().map(tracing::field::display);
            tracing::debug!(%error, outcome = how.word(), peer, "no TLS with a client");
        }
    }
}

/// Tells a client that speaks HTTP without TLS what is wrong.
async fn send_back(socket: Socket) {
    let refusal = Refusal::new(Code::TlsRequired, "this port speaks TLS: use https:// or wss:// in the URL");
    let told = line::write_all(&socket, answer::last_words(&refusal));
    if timeout(PATIENCE, told).await.is_ok_and(|told| told.is_ok()) {
        line::close(socket).await;
    }
}

/// For whoever is sent back to take it: all of it fits into what the kernel buffers.
const PATIENCE: Duration = Duration::from_secs(1);
