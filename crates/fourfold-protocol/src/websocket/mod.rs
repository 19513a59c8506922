//! WebSocket without I/O: RFC 6455 framing and RFC 7692 compression, as the server side needs them.
//!
//! Bytes go in, events come out; frames are built whole, to be shared. Nothing here reads, writes, waits or keeps time.
//!
//! - [`handshake`]: the accept key, the negotiation of compression
//! - [`reader`]: what a client sends, in any pieces, becomes whole messages
//! - [`writer`]: frames of the server, built once for all who read them
//! - [`inflate`] and [`deflate`]: one of each per thread, nothing per connection
//! - [`mod@close`]: close codes, ours and theirs; [`broken`]: every way to break the protocol
//!
//! A connection costs 16 bytes between messages, and while a message is partial what has come of it so far.
//!
//! ```
//! use fourfold_protocol::websocket::{self, Deflater, Event, Inflater, Limits, Reader, SharedFrame};
//!
//! // The handshake.
//! assert_eq!(websocket::accept_key("dGhlIHNhbXBsZSBub25jZQ==").as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
//! let agreed = websocket::negotiate(["permessage-deflate; client_max_window_bits"]);
//!
//! // Reading: the scratch buffer, the inflater and the deflater belong to the thread.
//! let (mut inflater, mut deflater) = (Inflater::default(), Deflater::default());
//! let limits = Limits { message_bytes_max: 1024 * 1024 };
//! let mut reader = Reader::new(agreed);
//! let scratch = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"; // as it came from the socket
//! let mut input = &scratch[..];
//! let answer = loop {
//!     match reader.feed(&mut input, &limits, &mut inflater) {
//!         Ok(None) => break None, // all of `input` is used up: read more from the socket
//!         Ok(Some(Event::Text(text))) => {
//!             assert_eq!(text, "Hello");
//!             // Writing: one frame for thousands of sockets, compressed at most once.
//!             let frame = SharedFrame::text(text.as_bytes());
//!             break Some(frame.encoded_for(agreed, &mut deflater));
//!         }
//!         Ok(Some(Event::Binary(_) | Event::Pong(_))) => {}
//!         Ok(Some(Event::Ping(payload))) => break Some(websocket::pong(&payload)),
//!         Ok(Some(Event::Close(close))) => break Some(websocket::close_reply(close.as_ref())),
//!         Err(broken) => break Some(websocket::close(broken.close_code())), // write it and hang up
//!     }
//! };
//! assert_eq!(answer.as_deref(), Some(&b"\x81\x05Hello"[..]));
//! ```

pub mod broken;
pub mod close;
pub mod deflate;
pub mod frame;
pub mod handshake;
pub mod inflate;
pub mod reader;
pub mod writer;

pub use broken::Broken;
pub use close::{Close, CloseCode};
pub use deflate::Deflater;
pub use handshake::{Agreed, accept_key, negotiate};
pub use inflate::Inflater;
pub use reader::{Event, Limits, Reader};
pub use writer::{SharedFrame, binary, close, close_reply, ping, pong, text};
