//! The page at `/`: files that are part of the binary.

use http::{StatusCode, header};

use crate::answer::{self, Answer};

/// Only what the page itself brings; it talks to its own origin.
const POLICY: &str =
    "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The file at this path.
pub(crate) fn get(path: &str) -> Option<Answer> {
    let (_, content_type, text) = FILES.iter().find(|(at, ..)| *at == path)?;
    let mut parts = answer::head(StatusCode::OK);
    answer::put(&mut parts, header::CONTENT_TYPE, content_type);
    answer::put(&mut parts, header::CACHE_CONTROL, "no-cache");
    answer::put(&mut parts, header::CONTENT_SECURITY_POLICY, POLICY);
    Some(answer::full(parts, *text))
}

const FILES: &[(&str, &str, &str)] = &[];
