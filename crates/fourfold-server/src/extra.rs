//! Further answers beside the streams: what the one who mounts the server brings.

use std::{fmt, future::Future, pin::Pin};

use bytes::Bytes;
use fourfold_protocol::Refusal;
use http::{Request, Response, header};

use crate::answer::{self, Answer};

/// An answer on its way.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, Refusal>> + Send + 'a>>;

/// Answers at paths of one's own, for [`Settings::extra`](crate::Settings::extra).
///
/// It is asked on the shard whose connection brought the request, which must not be held up: long work belongs to a thread
/// of its own. An answer gets the headers that all answers have (CORS, `nosniff`, a policy that runs nothing), unless it has
/// its own.
pub trait Extra: fmt::Debug + Send + Sync {
    /// Whether a path is its own. Not asked for paths of streams, of the page at `/` and of its files.
    fn has(&self, path: &str) -> bool;

    /// The answer to a request for such a path, with its whole body: at most
    /// [`Settings::body_bytes_max`](crate::Settings::body_bytes_max).
    fn answer(&self, request: Request<Bytes>) -> Answering<'_>;

    /// What the page at `/` links to: the path, and plain words without markup.
    fn link(&self) -> Option<(&'static str, &'static str)> {
        None
    }
}

/// With the headers that all answers have.
pub(crate) fn finished(response: Response<Bytes>) -> Answer {
    let (own, body) = response.into_parts();
    let mut parts = answer::head(own.status);
    for (name, value) in &own.headers {
        if name != header::CONTENT_LENGTH {
            parts.headers.insert(name.clone(), value.clone());
        }
    }
    Response::from_parts(parts, body)
}
