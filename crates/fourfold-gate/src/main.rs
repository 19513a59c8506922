//! The hot paths, each run so often that its instructions can be counted.
//!
//! ```text
//! fourfold-gate               lists the paths: name, rounds, operations a round
//! fourfold-gate NAME ROUNDS   runs one: the same warm-up whatever ROUNDS is, and then so many rounds
//! ```
//!
//! `run.mjs` runs each path under callgrind twice, with different numbers of rounds; the difference is what the rounds in between cost, and
//! start-up and warm-up are in neither. The main thread is the client, and is not counted: whatever is measured runs on other threads.

mod deliver;
mod encode;
mod http;
mod live;
mod served;

use std::{env, process::ExitCode, thread};

/// The command's. The C library's would not do: what it takes for a block of more than 1 KiB depends on the blocks beside it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A hot path.
struct Path {
    name: &'static str,
    /// Enough for an average that does not move.
    rounds: u32,
    /// What its figure is divided by.
    operations: u32,
    run: fn(u32),
}

const PATHS: &[Path] = &[
    Path { name: "encode/sse/1", rounds: 1_000, operations: 1, run: |rounds| encode::run(rounds, 1, encode::sse) },
    Path { name: "encode/sse/16", rounds: 1_000, operations: 1, run: |rounds| encode::run(rounds, 16, encode::sse) },
    Path { name: "encode/message/1", rounds: 1_000, operations: 1, run: |n| encode::run(n, 1, encode::message) },
    Path { name: "encode/message/16", rounds: 1_000, operations: 1, run: |n| encode::run(n, 16, encode::message) },
    Path { name: "encode/websocket/1", rounds: 1_000, operations: 1, run: |n| encode::run(n, 1, encode::websocket) },
    Path { name: "encode/websocket/16", rounds: 1_000, operations: 1, run: |n| encode::run(n, 16, encode::websocket) },
    Path { name: "encode/deflated/1", rounds: 100, operations: 1, run: |n| encode::run(n, 1, encode::deflated) },
    Path { name: "encode/deflated/16", rounds: 100, operations: 1, run: |n| encode::run(n, 16, encode::deflated) },
    Path { name: "deliver/cursor", rounds: 500, operations: deliver::CURSORS, run: deliver::run },
    Path { name: "deliver/sse", rounds: 1_000, operations: live::READERS, run: live::sse },
    Path { name: "deliver/websocket", rounds: 1_000, operations: live::READERS, run: live::websocket },
    Path { name: "deliver/ndjson", rounds: 1_000, operations: live::READERS, run: live::ndjson },
    Path { name: "deliver/long-poll", rounds: 1_000, operations: 1, run: live::long_poll },
    Path { name: "poll/304", rounds: 10_000, operations: 1, run: http::not_modified },
    Path { name: "poll/304/new", rounds: 1_000, operations: 1, run: http::not_modified_new },
    Path { name: "poll/16", rounds: 1_000, operations: 1, run: http::sixteen },
    Path { name: "append/memory/1", rounds: 1_000, operations: 1, run: |rounds| http::append(rounds, 1) },
    Path { name: "append/memory/16", rounds: 1_000, operations: 1, run: |rounds| http::append(rounds, 16) },
    Path { name: "append/synced/1", rounds: 1_000, operations: 1, run: http::append_synced },
];

#[expect(clippy::print_stdout, reason = "the list is what it is asked for")]
fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match &args[..] {
        [] => PATHS.iter().for_each(|path| println!("{} {} {}", path.name, path.rounds, path.operations)),
        [name, rounds] => {
            let path = PATHS.iter().find(|path| path.name == name);
            let (Some(path), Ok(rounds)) = (path, rounds.parse()) else { return ExitCode::FAILURE };
            (path.run)(rounds);
        }
        _ => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

/// Runs it on a thread that is counted.
fn counted(run: impl FnOnce() + Send + 'static) {
    thread::spawn(run).join().expect("what is counted does not panic");
}

/// A JSON record of 128 bytes that no other one contains.
fn record(number: u32) -> String {
    format!(r#"{{"mark":"{}","text":"{:x<97}"}}"#, mark(number), "")
}

/// What tells a record from all others.
fn mark(number: u32) -> String {
    format!("r{number:08}r")
}
