//! A heavy task, really done: makes a large file, then hashes and compresses it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use ring::digest::{Context, SHA256};
use serde::Serialize;

use crate::retry::random;

/// What is read or written at one go, in bytes.
const CHUNK_BYTES: usize = 64 << 10;

/// How often progress is told, at most: a bar that moves ten times a second moves smoothly.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// How far it is.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Progress {
    /// `making` or `packing`.
    pub(super) phase: &'static str,
    /// Of everything, 0 to 1.
    pub(super) progress: f64,
    /// Of this phase.
    pub(super) bytes: u64,
    /// In millions of bytes.
    pub(super) mb_per_second: f64,
}

/// What came out.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Outcome {
    pub(super) bytes: u64,
    pub(super) sha256: String,
    pub(super) compressed_bytes: u64,
    pub(super) seconds: f64,
}

/// Does it for a file of so many bytes. Holds up the thread.
pub(super) fn work(bytes: u64, mut tell: impl FnMut(Progress)) -> io::Result<Outcome> {
    let began = Instant::now();
    let mut file = nameless()?;
    let mut pace = Pace::new("making", 0.0, bytes);
    let mut text = Text::new();
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    while pace.done < bytes {
        text.fill(&mut chunk, usize::try_from(bytes - pace.done).unwrap_or(usize::MAX).min(CHUNK_BYTES));
        file.write_all(&chunk)?;
        pace.step(chunk.len() as u64, &mut tell);
    }
    file.rewind()?;
    let mut pace = Pace::new("packing", 0.2, bytes);
    let mut hash = Context::new(&SHA256);
    let mut packed = GzEncoder::new(Counted(0), Compression::best());
    chunk.resize(CHUNK_BYTES, 0);
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
        packed.write_all(&chunk[..read])?;
        pace.step(read as u64, &mut tell);
    }
    let sha256 = hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let compressed_bytes = packed.finish()?.0;
    Ok(Outcome { bytes: pace.done, sha256, compressed_bytes, seconds: began.elapsed().as_secs_f64() })
}

/// A file without a name: it goes with the process, however that ends.
fn nameless() -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("fourfold-demo-{:016x}", random()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// Tells progress, not too often.
struct Pace {
    phase: &'static str,
    /// Where this phase begins in the whole.
    from: f64,
    bytes: u64,
    done: u64,
    told: Instant,
    told_bytes: u64,
}

impl Pace {
    fn new(phase: &'static str, from: f64, bytes: u64) -> Self {
        Self { phase, from, bytes, done: 0, told: Instant::now(), told_bytes: 0 }
    }

    #[expect(clippy::cast_precision_loss, reason = "a speed for people")]
    fn step(&mut self, bytes: u64, tell: &mut impl FnMut(Progress)) {
        self.done += bytes;
        let elapsed = self.told.elapsed();
        if elapsed < TELL_EVERY && self.done < self.bytes {
            return;
        }
        let to = if self.from > 0.0 { 1.0 } else { 0.2 };
        let progress = self.from + (to - self.from) * self.done as f64 / self.bytes as f64;
        let speed = (self.done - self.told_bytes) as f64 / 1e6 / elapsed.as_secs_f64().max(1e-6);
        tell(Progress {
            phase: self.phase,
            progress: (progress * 1e4).round() / 1e4,
            bytes: self.done,
            mb_per_second: (speed * 10.0).round() / 10.0,
        });
        (self.told, self.told_bytes) = (Instant::now(), self.done);
    }
}

/// Where compressed bytes go: nowhere, but counted.
struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Words in no order, as compressible as prose.
struct Text {
    state: u64,
}

const WORDS: [&str; 32] = [
    "stream ", "record ", "offset ", "cursor ", "tail ", "epoch ", "portion ", "engine ", "the ", "of ", "and ",
    "then ", "reads ", "appends ", "waits ", "wakes ", "forks ", "closes ", "again ", "slowly ", "once ", "twice ",
    "seven ", "1024 ", "4437 ", "north ", "south ", "early ", "late ", "green ", "quiet ", "done.\n",
];

impl Text {
    fn new() -> Self {
        Self { state: random() | 1 }
    }

    fn fill(&mut self, chunk: &mut Vec<u8>, bytes: usize) {
        chunk.clear();
        while chunk.len() < bytes {
            // Marsaglia's xorshift: nothing here is secret.
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            for shift in [3, 11, 19, 27, 35, 43, 51] {
                chunk.extend_from_slice(WORDS[(self.state >> shift) as usize % WORDS.len()].as_bytes());
            }
        }
        chunk.truncate(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_hashed_and_packed_and_progress_only_grows() {
        let mut told = Vec::new();
        let outcome = work(300_000, |progress| told.push(progress)).unwrap();
        assert_eq!(outcome.bytes, 300_000);
        assert_eq!(outcome.sha256.len(), 64);
        assert!(outcome.compressed_bytes > 1_000 && outcome.compressed_bytes < 300_000, "{outcome:?}");
        assert!(told.windows(2).all(|two| two[0].progress <= two[1].progress));
        assert!((told.last().unwrap().progress - 1.0).abs() < 1e-9);
    }
}
