//! A socket that a live transport holds: writes with a deadline, and notices when the client goes.
//!
//! Nothing is buffered here. A write that does not fit waits, and the cursor with it.

use std::{io, time::Duration};

use tokio::{io::Interest, net::TcpStream, time::timeout};

use crate::limits::{LINGERING_CLOSE_BYTES_MAX, LINGERING_CLOSE_MAX, STALL_WAIT_MAX, STRAY_BYTES_MAX};

/// Writes all of it. Errors: the client is gone, or took no byte for [`STALL_WAIT_MAX`].
///
/// Not cancel-safe: dropped midway, some bytes may have been written.
pub(crate) async fn write_all(socket: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    let written = try_write(socket, bytes)?;
    if written == bytes.len() {
        return Ok(());
    }
    // Boxed, so that an idle task does not carry the state of a stalled one.
    Box::pin(write_rest(socket, &bytes[written..])).await
}

async fn write_rest(socket: &TcpStream, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        timeout(STALL_WAIT_MAX, socket.writable()).await.map_err(|_| io::ErrorKind::TimedOut)??;
        rest = &rest[try_write(socket, rest)?..];
    }
    Ok(())
}

/// Writes what fits now.
fn try_write(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match socket.try_write(bytes) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}

/// Completes when the client has closed its side, broken the connection, or sends more than it should. What it sends is dropped.
///
/// Cancel-safe.
pub(crate) async fn gone(socket: &TcpStream, stray: &mut usize) {
    let mut sink = [0; 256];
    while socket.readable().await.is_ok() {
        match socket.try_read(&mut sink) {
            Ok(0) => return,
            Ok(bytes) => {
                *stray += bytes;
                if *stray > STRAY_BYTES_MAX {
                    return;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// As [`gone`], but what the client sends stays unread: it is its next request. Then only an error completes it.
pub(crate) async fn gone_unread(socket: &TcpStream) {
    let mut first = [0; 1];
    match socket.peek(&mut first).await {
        Ok(0) | Err(_) => {}
        Ok(_) => drop(socket.ready(Interest::ERROR).await),
    }
}

/// Ends a connection so that the client gets all that was written, also if it is still sending.
pub(crate) async fn close(mut socket: TcpStream) {
    use tokio::io::AsyncWriteExt;
    if socket.shutdown().await.is_err() {
        return;
    }
    let drain = async {
        let (mut sink, mut drained) = (vec![0; 16 * 1024], 0);
        while drained < LINGERING_CLOSE_BYTES_MAX && socket.readable().await.is_ok() {
            match socket.try_read(&mut sink) {
                Ok(0) => return,
                Ok(bytes) => drained += bytes,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    let _ = timeout(LINGERING_CLOSE_MAX, drain).await;
}

/// A duration spread from half to one and a half of itself.
pub(crate) fn jittered(duration: Duration) -> Duration {
    duration.mul_f32(0.5 + fastrand::f32())
}
