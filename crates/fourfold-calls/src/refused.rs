//! Refusals that more than one part of this crate gives.

use fourfold_protocol::{Code, Refusal};
use fourfold_stream::Unavailable;

pub(crate) fn not_configured(name: &str) -> Refusal {
    let detail = format!("no call '{name}' is configured: GET /v1/calls names those that are");
    Refusal::new(Code::CallNotFound, detail)
}

pub(crate) fn not_found(id: &str) -> Refusal {
    Refusal::new(Code::CallNotFound, format!("there is no call '{id}': it was deleted or is no longer kept"))
}

/// The engine's trouble, as a client gets to know it.
pub(crate) fn unavailable(why: &Unavailable) -> Refusal {
    match why {
        Unavailable::Full => Refusal::new(
            Code::StorageFull,
            "the server's disk is full: nothing was begun; try again when there is room",
        )
        .with("retryAfter", 5),
        Unavailable::Overloaded => {
            Refusal::new(Code::Overloaded, "too much is waiting to be stored: nothing was begun; try again")
                .with("retryAfter", 1)
        }
        Unavailable::Failed(text) => {
            // What failed is for the operator; a client gets to know that it was not its fault.
            tracing::error!(error = text, "the engine failed");
            Refusal::new(Code::Internal, "the server could not do it; nothing was executed")
        }
    }
}
