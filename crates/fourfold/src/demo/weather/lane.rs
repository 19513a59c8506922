//! One direction of a relayed connection: bytes pass when their delay is over, and not while they are held back.

use std::{collections::VecDeque, io};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::tcp::{ReadHalf, WriteHalf},
    sync::watch,
    time::{Instant, sleep_until},
};

use super::Faults;

/// Bytes on their way in one direction; then the sender has to wait. Also what a proxy that buffers collects before it passes something on.
const QUEUE_BYTES_MAX: usize = 64 << 10;

/// What is read at one go, in bytes.
const CHUNK_BYTES: usize = 8 << 10;

/// Carries until `from` ends and all of it has arrived; `first` goes ahead. With `holds`, it is what a proxy that buffers would hold back.
pub(super) async fn carry(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    first: Vec<u8>,
    mut weather: watch::Receiver<Faults>,
    holds: bool,
) -> io::Result<()> {
    let mut queued = first.len();
    let mut queue = VecDeque::new();
    if queued > 0 {
        queue.push_back((Instant::now() + weather.borrow().delay(), first));
    }
    let mut open = true;
    let mut buffer = vec![0; CHUNK_BYTES];
    while open || !queue.is_empty() {
        let faults = *weather.borrow_and_update();
        let held = holds && faults.buffer_sse && open && queued < QUEUE_BYTES_MAX;
        let due = queue.front().filter(|_| !held).map(|(due, _)| *due);
        tokio::select! {
            read = from.read(&mut buffer), if open && queued < QUEUE_BYTES_MAX => match read? {
                0 => open = false,
                read => {
                    queue.push_back((Instant::now() + faults.delay(), buffer[..read].to_vec()));
                    queued += read;
                }
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                if let Some((_, chunk)) = queue.pop_front() {
                    queued -= chunk.len();
                    to.write_all(&chunk).await?;
                }
            }
            changed = weather.changed() => changed.map_err(|_| io::ErrorKind::BrokenPipe)?,
        }
    }
    to.shutdown().await
}
