//! Refusals that more than one part of this crate gives.

use fourfold_protocol::{Code, Refusal};
use fourfold_stream::Unavailable;

pub(crate) fn gone(id: &str) -> Refusal {
    Refusal::new(Code::SubscriptionNotFound, format!("there is no subscription '{id}': create it with PUT"))
}

pub(crate) fn invalid(why: impl Into<String>) -> Refusal {
    Refusal::new(Code::InvalidSubscription, why)
}

/// The engine's trouble, as a client gets to know it.
pub(crate) fn unavailable(why: &Unavailable) -> Refusal {
    match why {
        Unavailable::Full => Refusal::new(
            Code::StorageFull,
            "the server's disk is full: nothing was changed; try again when there is room",
        )
        .with("retryAfter", 5),
        Unavailable::Overloaded => {
            Refusal::new(Code::Overloaded, "too much is waiting to be stored: nothing was changed; try again")
                .with("retryAfter", 1)
        }
        Unavailable::Failed(text) => {
            // What failed is for the operator; a client gets to know that it was not its fault.
            tracing::error!(error = text, "the engine failed");
            Refusal::new(Code::Internal, "the server could not do it; whether it was done is not known. Ask again")
        }
    }
}
