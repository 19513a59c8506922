//! `kill -9` again and again while writers append and readers read in every way: no acknowledged record is lost, doubled
//! or reordered, nothing that a reader saw is taken back, and every reader sees the same.
//!
//! Chance decides when; a seed repeats it: `FOURFOLD_KILL_SEED=7 FOURFOLD_KILL_ROUNDS=200`.

mod account;
mod reborn;
mod run;

use std::net::TcpListener;

use crate::{
    harness::Server,
    seeded::{Seeded, asked_for, fresh_seed},
};

use run::Run;

#[test]
fn nothing_acknowledged_is_lost_doubled_or_reordered_by_kills() {
    killed(20, &[]);
}

#[test]
fn with_durability_interval_kills_take_nothing() {
    killed(6, &["--durability", "interval", "--sync-interval", "50ms"]);
}

#[test]
fn with_durability_os_kills_take_nothing() {
    killed(6, &["--durability", "os"]);
}

fn killed(rounds: u64, flags: &[&str]) {
    let seed = asked_for("FOURFOLD_KILL_SEED").unwrap_or_else(fresh_seed);
    let rounds = asked_for("FOURFOLD_KILL_ROUNDS").unwrap_or(rounds);
    eprintln!("FOURFOLD_KILL_SEED={seed} FOURFOLD_KILL_ROUNDS={rounds}");
    let mut chance = Seeded::new(seed);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start_in(dir, &free_address(&mut chance), flags);
    Run::begin(server, chance).kill(rounds).check();
}

/// Outside the ports that systems deal out: while the server is down, a client's own port must not be taken for it.
pub(crate) fn free_address(chance: &mut Seeded) -> String {
    loop {
        let address = format!("127.0.0.1:{}", chance.within(20_000..30_000));
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}
