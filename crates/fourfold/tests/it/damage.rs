//! Damaged files through the command: it starts with everything that was acknowledged, or says in one line which file is broken.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    harness::{Server, fourfold, run},
    reader::{Reader, Target, Way, answer, http, position},
    records::Kind,
    seeded::{Seeded, asked_for, fresh_seed},
    writer::{Fate, Post, create},
};

const RECORDS: u64 = 60;

/// How a server left its files.
#[derive(Clone, Copy, Debug)]
enum Left {
    Drained,
    Killed,
}

/// A data directory with acknowledged records.
fn filled(left: Left) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut server = Server::start_in(dir, "127.0.0.1:0", &[]);
    let target = target(&server.address());
    run(async {
        create(&target).await;
        for n in 0..RECORDS {
            append(&target, n).await;
        }
    });
    match left {
        Left::Drained => drop(server.terminate().succeeded()),
        Left::Killed => server.kill(),
    }
    copied(server.data_dir().as_ref())
}

fn target(address: &str) -> Target {
    Target { address: address.to_owned(), stream: "damaged".into(), kind: Kind::Json }
}

async fn append(target: &Target, n: u64) {
    let body = target.kind.body(&[target.kind.record("w", n)]);
    let fate = Post::new(&http(), target, body).by("w", n).send_until_answered().await;
    assert!(matches!(fate, Fate::At(next) if position(&next) as u64 == n + 1), "nothing else is there");
}

/// A directory of its own, with `data` in it as the server wants it. Journals stay sparse.
fn copied(data: &Path) -> TempDir {
    let to = tempfile::tempdir().expect("a temporary directory");
    copy(data, &to.path().join("data"));
    to
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("it is new");
    for entry in fs::read_dir(from).expect("it is a directory") {
        let entry = entry.expect("it can be listed");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("it has one").is_socket() {
            continue; // The control socket of a server that was killed.
        }
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            let bytes = fs::read(entry.path()).expect("it can be read");
            write_sparse(&target, &bytes);
        }
    }
}

fn write_sparse(file: &Path, bytes: &[u8]) {
    let mut file = File::create(file).expect("it can be written");
    file.write_all(&bytes[..end(bytes)]).expect("there is room");
    file.set_len(bytes.len() as u64).expect("there is room");
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("it is a directory") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn journal(dir: &TempDir) -> PathBuf {
    let mut journals = files(&dir.path().join("data"));
    journals.retain(|path| path.extension().is_some_and(|extension| extension == "jnl"));
    journals.pop().expect("there is a journal")
}

/// How much of a journal is in use; the rest is zeros.
fn used(file: &Path) -> usize {
    end(&fs::read(file).expect("it can be read"))
}

/// Whole slices are compared in one go: most of a journal is zeros.
fn end(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let whole = bytes.rchunks(ZEROS.len()).take_while(|chunk| **chunk == ZEROS[..chunk.len()]).map(<[u8]>::len).sum();
    let bytes = &bytes[..bytes.len() - usize::min(whole, bytes.len())];
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// What came of starting on damaged files.
#[derive(Debug)]
enum Came {
    /// It serves so many records, from the first on and to the letter, and takes more.
    Up(u64),
    /// It serves, but says of this stream that it cannot.
    Told,
    /// It does not start; its one line.
    Refused(String),
}

fn start(dir: &TempDir) -> Came {
    let data = dir.path().join("data");
    let data = data.to_str().expect("temporary paths are UTF-8");
    let running = fourfold(&["serve", "--listen", "127.0.0.1:0", "--data-dir", data, "--log", "off"]);
    let Some(line) = running.line_or_end() else { return Came::Refused(running.finish().failed().to_owned()) };
    let target = target(line.strip_prefix("listening on http://").expect("the line of the contract"));
    run(async {
        let head = answer(http().head(target.url()), &[200, 500]).await.expect("it is up");
        let Some(tail) = crate::reader::header(&head, "Stream-Next-Offset") else { return Came::Told };
        let count = position(tail);
        let read = http().get(format!("{}?offset=-1", target.url()));
        if answer(read, &[200, 500]).await.expect("it is up").status() == 500 {
            return Came::Told;
        }
        let reader = Reader::read(&target, Way::ShortPoll, count).await;
        let expected: Vec<_> = (0..count as u64).map(|n| target.kind.record("w", n)).collect();
        assert_eq!(reader.records, expected);
        append(&target, count as u64).await;
        Came::Up(count as u64)
    })
}

/// All acknowledged records are there, or somebody is told; the line names a file below the data directory.
fn nothing_passed_over(came: Came, dir: &TempDir, what: &str) -> bool {
    match came {
        Came::Up(count) => assert_eq!(count, RECORDS, "{what}"),
        Came::Told => {}
        Came::Refused(line) => {
            names_a_file(&line, dir, what);
            return true;
        }
    }
    false
}

fn names_a_file(line: &str, dir: &TempDir, what: &str) {
    let data = dir.path().join("data");
    let data = format!("{}/", data.to_str().expect("temporary paths are UTF-8"));
    assert!(line.contains(&data), "{what}: the line names no file: {line}");
}

#[test]
fn an_undamaged_directory_opens_after_a_drain_and_after_a_kill() {
    for left in [Left::Drained, Left::Killed] {
        assert!(matches!(start(&filled(left)), Came::Up(RECORDS)), "{left:?}");
    }
}

#[test]
fn garbage_behind_the_end_is_cut_off_after_a_crash() {
    let dir = filled(Left::Killed);
    for garbage in [&b"\xff"[..], b"garbage that is no batch", &[0x01, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3], &[7; 3000]] {
        let copy = copied(&dir.path().join("data"));
        let file = journal(&copy);
        let mut bytes = fs::read(&file).expect("it can be read");
        let end = used(&file);
        bytes[end..end + garbage.len()].copy_from_slice(garbage);
        write_sparse(&file, &bytes);
        assert!(matches!(start(&copy), Came::Up(RECORDS)), "{garbage:?}");
        // For good: the next start finds the record that was appended then.
        assert!(matches!(start(&copy), Came::Up(count) if count == RECORDS + 1), "{garbage:?}");
    }
}

#[test]
fn a_journal_that_was_cut_after_a_drain_is_refused_in_one_line_that_names_it() {
    let dir = filled(Left::Drained);
    let length = used(&journal(&dir)) as u64;
    for cut in [0, length / 2, length - 1] {
        let copy = copied(&dir.path().join("data"));
        let file = journal(&copy);
        File::options().write(true).open(&file).expect("it is there").set_len(cut).expect("it can be cut");
        let Came::Refused(line) = start(&copy) else { panic!("it started with a journal cut at {cut} of {length}") };
        assert!(line.contains(file.to_str().expect("temporary paths are UTF-8")), "{line}");
    }
}

/// Only those that the storage reads: it leaves old manifests behind.
fn live_files(data: &Path) -> Vec<PathBuf> {
    let mut live = files(data);
    live.retain(|file| {
        let name = file.file_name().and_then(|name| name.to_str()).expect("names are UTF-8");
        match name.strip_prefix('v').and_then(|number| number.parse::<u64>().ok()) {
            Some(number) => !file.with_file_name(format!("v{}", number + 1)).exists(),
            None => true,
        }
    });
    live
}

fn in_copy(copy: &TempDir, data: &Path, file: &Path) -> PathBuf {
    copy.path().join("data").join(file.strip_prefix(data).expect("it is below"))
}

fn flip(file: &Path, at: u64, bit: u64) {
    let mut bytes = fs::read(file).expect("it can be read");
    bytes[usize::try_from(at).expect("it is in the file")] ^= 1 << bit;
    write_sparse(file, &bytes);
}

#[test]
fn a_flipped_bit_in_any_file_is_passed_over_by_nobody() {
    let seed = asked_for("FOURFOLD_DAMAGE_SEED").unwrap_or_else(fresh_seed);
    eprintln!("FOURFOLD_DAMAGE_SEED={seed}");
    let mut chance = Seeded::new(seed);
    let dir = filled(Left::Drained);
    let data = dir.path().join("data");
    let mut refused = 0;
    for file in live_files(&data) {
        let length = used(&file) as u64;
        // The journal most of all: what is in it is nowhere else yet.
        let flips = if file.extension().is_some_and(|extension| extension == "jnl") { 6 } else { length.min(1) };
        for _ in 0..flips {
            let copy = copied(&data);
            let (at, bit) = (chance.within(0..length), chance.within(0..8));
            flip(&in_copy(&copy, &data, &file), at, bit);
            let what = format!("bit {bit} of byte {at} of {length} of {}", file.display());
            refused += u32::from(nothing_passed_over(start(&copy), &copy, &what));
        }
    }
    assert!(refused > 0, "the journal's damages at least are seen at the start");
}

/// It stopped twice over, with a hundred lines and without a code.
#[test]
fn a_manifest_on_which_the_storage_panics_is_refused_in_one_line() {
    let dir = filled(Left::Drained);
    let data = dir.path().join("data");
    for space in ["0", "1"] {
        let newest = live_files(&data.join("keyspaces").join(space));
        let newest = newest.iter().find(|file| file.file_name().is_some_and(|name| name != "current"));
        let newest = newest.expect("every keyspace has a manifest");
        for at in [9, 18] {
            let copy = copied(&data);
            flip(&in_copy(&copy, &data, newest), at, 2);
            assert!(nothing_passed_over(start(&copy), &copy, &format!("byte {at} of {}", newest.display())));
        }
    }
}

#[test]
fn a_missing_or_shortened_file_is_passed_over_by_nobody() {
    let dir = filled(Left::Drained);
    let data = dir.path().join("data");
    for file in live_files(&data) {
        for shortened in [false, true] {
            let copy = copied(&data);
            let damaged = in_copy(&copy, &data, &file);
            if shortened {
                let half = used(&damaged) as u64 / 2;
                File::options().write(true).open(&damaged).expect("it is there").set_len(half).expect("it can be cut");
            } else {
                fs::remove_file(&damaged).expect("it is there");
            }
            let what = format!("{}, {}", file.display(), if shortened { "shortened" } else { "missing" });
            nothing_passed_over(start(&copy), &copy, &what);
        }
    }
}
