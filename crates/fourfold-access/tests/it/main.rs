//! Access as the server sees it: real keys, real sockets, no mocks.

mod harness;
mod rules;
mod tokens;
