//! The command as people run it: real processes, real sockets, real files. One binary, so that it links once.

mod access;
mod address;
mod backup;
mod bench;
mod call;
mod calls;
mod crash;
mod damage;
mod demo;
mod drain;
mod follow;
mod forks;
mod full_disk;
mod gap;
mod harness;
mod kill;
mod operation;
mod pipe;
mod reader;
mod records;
mod refused;
mod round_trip;
mod seeded;
mod shown_tokens;
mod subscriptions;
mod writer;
