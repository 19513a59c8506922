//! What clients may send, in any pieces, and what each breach of the protocol comes to.

mod client;
mod deflate;
mod framing;
mod violations;
