//! `append --follow`: a log that grows, is rotated and cut, line for line.

use std::{
    fs::{self, File},
    io::Write,
};

use rustix::process::Signal;

use crate::harness::Server;

#[test]
fn a_followed_log_is_appended_through_rotation_and_truncation() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    server.append_lines("log", &[], &[]).succeeded();
    let tail = server.tail("log", &["--offset", "-1"]);
    let append = server.append("log", &["--follow", path.to_str().unwrap()]);

    let mut file = File::options().create(true).append(true).open(&path).unwrap();
    writeln!(file, "before").unwrap();
    assert_eq!(tail.line(), "before");

    fs::rename(&path, dir.path().join("log.1")).unwrap();
    writeln!(file, "to the file that was moved away").unwrap();
    assert_eq!(tail.line(), "to the file that was moved away");
    let mut file = File::options().create(true).append(true).open(&path).unwrap();
    writeln!(file, "after the rotation").unwrap();
    assert_eq!(tail.line(), "after the rotation");

    file.set_len(0).unwrap();
    writeln!(file, "cut").unwrap();
    assert_eq!(tail.line(), "cut");

    append.signal(Signal::INT);
    let finished = append.finish().succeeded();
    assert!(finished.lines[0].starts_with("appended 4 records to log; the next offset is "), "{:?}", finished.lines);
}
