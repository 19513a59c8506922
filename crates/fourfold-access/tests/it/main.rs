//! Access as the server sees it: real keys, real sockets, no mocks.

mod backend;
mod harness;
mod hook;
mod jwks;
mod properties;
mod rules;
mod tokens;
