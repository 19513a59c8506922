//! `fourfold pack`: a heavy task, really done: hashes and compresses every file under a folder. It is a program like any other that a call may
//! run: it reads a wish from its standard input, tells its progress in lines of JSON, and its result in the last one.
//!
//! Without a folder it makes one of the wished size, and takes it away again however it ends, unless it is killed.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{Context, SHA256};
use flate2::{Compression, write::GzEncoder};
use serde::{Deserialize, Serialize};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::retry::random;

/// The largest folder that is made, in millions of bytes: half a gigabyte of a disk that is not ours.
pub(super) const MEGABYTES_MAX: u64 = 512;

/// A wish, in bytes: one number and its name.
pub(super) const WISH_BYTES_MAX: usize = 4 << 10;

/// The files of a folder that is made, in bytes: enough of them to be a folder.
const FILE_BYTES: u64 = 2_000_000;

/// What is read or written at one go, in bytes.
const CHUNK_BYTES: usize = 64 << 10;

/// Files under a folder that is given: whoever has more does not want to see a demo.
const FILES_MAX: usize = 100_000;

/// How often progress is told, at most: a bar that moves ten times a second moves smoothly.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Of the whole time, about what making a folder takes.
const MAKING: f64 = 0.2;

/// Why it did not come to its result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// What was on standard input.
    #[error("not a wish: write {{\"megabytes\": 1 to {MEGABYTES_MAX}}}: {0}")]
    Wish(String),
    /// Of the folder, or nobody reads standard output.
    #[error(transparent)]
    File(#[from] io::Error),
    /// SIGTERM.
    #[error("stopped")]
    Stopped,
}

/// What is read from standard input; nothing is `{}`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    #[serde(default = "megabytes_default")]
    megabytes: u64,
}

const fn megabytes_default() -> u64 {
    256
}

/// How far it is, one line.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Progress {
    /// From 1, without holes.
    n: u64,
    /// Of everything, 0 to 1.
    progress: f64,
    /// `making` or `packing`.
    phase: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    file: String,
    /// Of this phase.
    bytes: u64,
    /// All bytes of this phase.
    of: u64,
    /// In millions of bytes.
    mb_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Outcome>,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    files: usize,
    bytes: u64,
    compressed_bytes: u64,
    /// Of the hashes of the files, in the order of their names.
    sha256: String,
    seconds: f64,
}

/// Runs the command: the work on a thread, so that SIGTERM is heard meanwhile and the folder taken away.
pub(crate) async fn pack(folder: Option<PathBuf>) -> Result<(), PackError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = Arc::new(AtomicBool::new(false));
    let (done, mut doing) = oneshot::channel();
    let stopped = Arc::clone(&stop);
    std::thread::spawn(move || done.send(run(folder.as_deref(), io::stdin().lock(), io::stdout(), &stopped)));
    let died = |_| io::Error::other("the work has died");
    tokio::select! {
        worked = &mut doing => return worked.map_err(died)?,
        _ = terminate.recv() => stop.store(true, Relaxed),
    }
    doing.await.map_err(died)?
}

fn run(folder: Option<&Path>, input: impl Read, out: impl Write, stop: &AtomicBool) -> Result<(), PackError> {
    let mut teller = Teller::new(out, stop);
    let Some(folder) = folder else {
        let made = Made::create(wish(input)?.megabytes * 1_000_000, &mut teller)?;
        return work(&made.0, MAKING, teller);
    };
    work(folder, 0.0, teller)
}

fn wish(input: impl Read) -> Result<Wish, PackError> {
    let unfit = |why: String| PackError::Wish(why);
    let mut text = Vec::new();
    input.take(WISH_BYTES_MAX as u64 + 1).read_to_end(&mut text)?;
    let text: &[u8] = if text.is_empty() { b"{}" } else { &text };
    if text.len() > WISH_BYTES_MAX {
        return Err(unfit(format!("it is longer than {WISH_BYTES_MAX} bytes")));
    }
    let wish: Wish = serde_json::from_slice(text).map_err(|error| unfit(error.to_string()))?;
    if !(1..=MEGABYTES_MAX).contains(&wish.megabytes) {
        return Err(unfit(format!("{} is out of bounds", wish.megabytes)));
    }
    Ok(wish)
}

fn work<W: Write>(folder: &Path, from: f64, mut teller: Teller<'_, W>) -> Result<(), PackError> {
    let mut files = Vec::new();
    find(folder, &mut files)?;
    files.sort_unstable();
    let of = files.iter().map(|(_, bytes)| bytes).sum();
    teller.begin("packing", from, 1.0, of);
    let mut hashes = Context::new(&SHA256);
    let mut compressed_bytes = 0;
    let mut chunk = vec![0; CHUNK_BYTES];
    for (path, _) in &files {
        teller.now.file = path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned();
        let mut file = File::open(path)?;
        let mut hash = Context::new(&SHA256);
        let mut packed = GzEncoder::new(Counted(0), Compression::best());
        loop {
            let read = file.read(&mut chunk)?;
            if read == 0 {
                break;
            }
            hash.update(&chunk[..read]);
            packed.write_all(&chunk[..read])?;
            teller.step(read as u64)?;
        }
        hashes.update(hash.finish().as_ref());
        compressed_bytes += packed.finish()?.0;
    }
    let sha256 = hashes.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let seconds = teller.began.elapsed().as_secs_f64();
    let bytes = teller.now.bytes;
    teller.end(Outcome { files: files.len(), bytes, compressed_bytes, sha256, seconds })
}

/// All files below, with their sizes. Links are not followed, so that it ends.
fn find(folder: &Path, files: &mut Vec<(PathBuf, u64)>) -> Result<(), PackError> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            find(&entry.path(), files)?;
        } else if metadata.is_file() {
            files.push((entry.path(), metadata.len()));
        }
        if files.len() > FILES_MAX {
            return Err(io::Error::other(format!("there are more than {FILES_MAX} files")).into());
        }
    }
    Ok(())
}

/// A folder of ours; it goes with this.
struct Made(PathBuf);

impl Made {
    fn create<W: Write>(bytes: u64, teller: &mut Teller<'_, W>) -> Result<Self, PackError> {
        let path = std::env::temp_dir().join(format!("fourfold-demo-{:016x}", random()));
        DirBuilder::new().mode(0o700).create(&path)?;
        let made = Self(path);
        teller.begin("making", 0.0, MAKING, bytes);
        let mut text = Text::new();
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        for (nth, from) in (0..bytes).step_by(usize::try_from(FILE_BYTES).unwrap_or(usize::MAX)).enumerate() {
            teller.now.file = format!("{nth:03}.txt");
            let mut file = File::create_new(made.0.join(&teller.now.file))?;
            let mut left = FILE_BYTES.min(bytes - from);
            while left > 0 {
                text.fill(&mut chunk, usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES));
                file.write_all(&chunk)?;
                left -= chunk.len() as u64;
                teller.step(chunk.len() as u64)?;
            }
        }
        Ok(made)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // What cannot be removed now is the system's to clear: it is a temporary folder.
    }
}

/// Tells progress, not too often, and stops when it is asked to.
struct Teller<'a, W> {
    out: W,
    stop: &'a AtomicBool,
    began: Instant,
    now: Progress,
    /// Where this phase begins and ends in the whole.
    span: (f64, f64),
    told: Instant,
    told_bytes: u64,
}

impl<'a, W: Write> Teller<'a, W> {
    fn new(out: W, stop: &'a AtomicBool) -> Self {
        let began = Instant::now();
        Self { out, stop, began, now: Progress::default(), span: (0.0, 1.0), told: began, told_bytes: 0 }
    }

    fn begin(&mut self, phase: &'static str, from: f64, to: f64, of: u64) {
        self.span = (from, to);
        (self.told, self.told_bytes) = (Instant::now(), 0);
        self.now = Progress { n: self.now.n, progress: from, phase, of, ..Progress::default() };
    }

    #[expect(clippy::cast_precision_loss, reason = "a speed for people")]
    fn step(&mut self, bytes: u64) -> Result<(), PackError> {
        if self.stop.load(Relaxed) {
            return Err(PackError::Stopped);
        }
        self.now.bytes += bytes;
        let elapsed = self.told.elapsed();
        if elapsed < TELL_EVERY && self.now.bytes < self.now.of {
            return Ok(());
        }
        let (from, to) = self.span;
        // A file may have grown since it was found.
        let part = (self.now.bytes as f64 / self.now.of as f64).min(1.0);
        let speed = (self.now.bytes - self.told_bytes) as f64 / 1e6 / elapsed.as_secs_f64().max(1e-6);
        self.now.progress = ((from + (to - from) * part) * 1e4).round() / 1e4;
        self.now.mb_per_second = (speed * 10.0).round() / 10.0;
        (self.told, self.told_bytes) = (Instant::now(), self.now.bytes);
        self.tell()
    }

    fn end(mut self, outcome: Outcome) -> Result<(), PackError> {
        self.now = Progress { progress: 1.0, file: String::new(), result: Some(outcome), ..self.now };
        self.tell()
    }

    fn tell(&mut self) -> Result<(), PackError> {
        self.now.n += 1;
        let line = serde_json::to_string(&self.now).expect("numbers and words are JSON");
        writeln!(self.out, "{line}")?;
        Ok(self.out.flush()?)
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
    use serde_json::Value;

    fn packed(folder: Option<&Path>, wish: &str, stop: bool) -> (Result<(), PackError>, Vec<Value>) {
        let mut out = Vec::new();
        let done = run(folder, wish.as_bytes(), &mut out, &AtomicBool::new(stop));
        let lines = String::from_utf8(out).unwrap();
        (done, lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    #[test]
    fn a_folder_is_made_hashed_and_packed_and_progress_only_grows() {
        let (done, told) = packed(None, r#"{"megabytes":3}"#, false);
        done.unwrap();
        let progress: Vec<f64> = told.iter().map(|line| line["progress"].as_f64().unwrap()).collect();
        assert!(progress.is_sorted() && progress.last() == Some(&1.0), "{progress:?}");
        let numbers: Vec<u64> = told.iter().map(|line| line["n"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=told.len() as u64).collect::<Vec<_>>());
        let result = &told.last().unwrap()["result"];
        assert_eq!((&result["files"], &result["bytes"]), (&2.into(), &3_000_000.into()));
        assert_eq!(result["sha256"].as_str().unwrap().len(), 64);
        assert!((1_000..3_000_000).contains(&result["compressedBytes"].as_u64().unwrap()), "{result}");
    }

    #[test]
    fn every_file_under_a_folder_is_packed_and_the_same_files_have_the_same_hash() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("below")).unwrap();
        for (name, text) in [("a", "one"), ("below/b", "two"), ("empty", "")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        std::os::unix::fs::symlink(dir.path(), dir.path().join("round")).unwrap();
        let result = || packed(Some(dir.path()), "", false).1.pop().unwrap()["result"].take();
        let first = result();
        assert_eq!((&first["files"], &first["bytes"]), (&3.into(), &6.into()));
        assert_eq!(result()["sha256"], first["sha256"]);
        fs::write(dir.path().join("below/b"), "six").unwrap();
        assert_ne!(result()["sha256"], first["sha256"]);
    }

    #[test]
    fn what_is_stopped_or_wished_wrongly_has_no_result() {
        let (done, told) = packed(None, r#"{"megabytes":1}"#, true);
        assert!(matches!(done, Err(PackError::Stopped)) && told.is_empty());
        for wish in [r#"{"megabytes":0}"#, r#"{"megabytes":513}"#, r#"{"gigabytes":1}"#, "256"] {
            assert!(matches!(packed(None, wish, false).0, Err(PackError::Wish(_))), "{wish}");
        }
    }
}
