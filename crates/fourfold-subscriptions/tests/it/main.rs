//! Subscriptions as workers meet them: a real engine, real webhooks on loopback.

mod delivery;
mod ground;
mod lease;
mod links;
mod restart;
mod tls;
