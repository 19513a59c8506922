//! The command as people run it: real processes, real sockets, real files. One binary, so that it links once.

mod address;
mod crash;
mod demo;
mod follow;
mod gap;
mod harness;
mod pipe;
mod refused;
mod round_trip;
mod subscriptions;
