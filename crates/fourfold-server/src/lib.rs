//! The wire: one URL is one stream, and the request says how to read it.
//!
//! ```text
//! server ─ connection ─ routes ─┬─ publish    the way in
//!                               ├─ subscribe  the way out ─ transports/*
//!                               ├─ call       requests that the server executes (a crate of their own)
//!                               ├─ control    subscriptions (a crate of their own)
//!                               └─ extra      what the one who mounts the server adds
//! operator ─ health, metrics ◄─ tally (what each shard counts)
//! trace (how far an append has come) ─► whoever mounts the server, with the feature `traces`
//! ```
//!
//! ```no_run
//! # use std::sync::Arc;
//! # async fn example(engine: Arc<dyn fourfold_stream::Engine>, shards: Vec<fourfold_stream::RelayTask>) -> std::io::Result<()> {
//! use fourfold_server::{Server, Settings};
//!
//! let server = Server::bind("127.0.0.1:4437".parse().unwrap(), Settings::default()).await?;
//! println!("listening on http://{}", server.address()?);
//! server.run(engine, shards, std::future::pending()).await
//! # }
//! ```

mod access;
mod alarm;
mod answer;
mod bookmark;
mod budget;
mod call;
mod caller;
mod certificate;
mod connection;
mod context;
mod control;
mod extra;
mod forwarded;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod gcra;
mod h2_body;
mod h2_connection;
mod h2_patience;
mod h2_room;
mod health;
mod hyper_connection;
mod known_polls;
pub mod limits;
mod line;
mod list;
mod metrics;
mod network;
mod operator;
mod page;
mod process;
mod proxy_protocol;
mod publish;
mod query;
mod quota;
mod refusals;
mod request;
mod routes;
mod server;
mod settings;
mod socket;
mod subscribe;
mod tally;
mod timestamp;
mod tls;
mod tls_connection;
mod tls_socket;
mod trace;
mod transports;
pub mod websocket;
mod wire;

pub use access::Origins;
pub use certificate::{CERTIFICATE_LEFT_MIN, Certificate};
pub use extra::{Answering, Extra};
pub use forwarded::ForwardedHeader;
pub use fourfold_access::Access;
pub use fourfold_calls::{CallConfig, Options as CallOptions};
pub use fourfold_subscriptions::Options as SubscriptionOptions;
pub use gcra::Rate;
pub use limits::{LimitOptions, Limits, PerAddress};
pub use network::Network;
pub use operator::Operator;
pub use server::{Connections, Liveness, Server};
pub use settings::Settings;
pub use tls::{Tls, TlsError};
pub use trace::Traces;
#[cfg(feature = "traces")]
pub use trace::{Telling, Traced, Tracer};
