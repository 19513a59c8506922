//! What one connection of HTTP/2 has in memory: whole answers, and bodies of requests that came whole. Whoever comes beyond that waits.
//!
//! ```text
//! GET, …      room for an answer ─ answered ─ until the client has taken it
//! long poll   nothing while it waits ─ room for an answer ─ answered ─ until the client has taken it
//! POST, PUT   the body comes, however slowly ─ room for it ─ answered
//! ```
//!
//! They have an account each, so that a read waits for no append. While a body comes it is counted in what all connections share
//! ([`budget`](crate::budget)), of which one connection may have half: nobody waits for a slow one, and nobody alone takes all.

use std::sync::{Arc, Mutex, MutexGuard};

use http::Method;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    budget::{self, Budget, Taken},
    limits::{ANSWER_BYTES_MAX, H2_OUTSTANDING_BYTES_MAX},
};

/// What it is counted in, in bytes.
const UNIT_BYTES: usize = 64 * 1024;

/// The accounts of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    answers: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    /// Of bodies under way.
    coming: Arc<Budget>,
    units: usize,
}

impl Room {
    pub(crate) fn new(body_bytes_max: usize) -> Self {
        let units = H2_OUTSTANDING_BYTES_MAX.max(body_bytes_max) / UNIT_BYTES;
        let coming = Arc::<Budget>::default();
        coming.set_max((budget::of_bodies().max() / 2).max(body_bytes_max));
        Self { answers: Arc::new(Semaphore::new(units)), bodies: Arc::new(Semaphore::new(units)), coming, units }
    }

    /// A request's place: there is room for its answer, unless it has a body that is to come first.
    pub(crate) async fn enter(&self, method: &Method) -> Place {
        let appends = matches!(*method, Method::POST | Method::PUT);
        let answer = if appends { None } else { Some(self.take(&self.answers, 0).await) };
        Place(Arc::new(Inner { room: self.clone(), answer: Mutex::new(answer), body: Mutex::new(None) }))
    }

    async fn take(&self, account: &Arc<Semaphore>, bytes: usize) -> OwnedSemaphorePermit {
        let units = bytes.max(ANSWER_BYTES_MAX).div_ceil(UNIT_BYTES).min(self.units);
        let taken = Arc::clone(account).acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX)).await;
        taken.expect("nobody closes it")
    }
}

/// What one request has of it, until the last handle is dropped. Whoever reads the body finds it among the request's extensions.
#[derive(Clone, Debug)]
pub(crate) struct Place(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    room: Room,
    answer: Mutex<Option<OwnedSemaphorePermit>>,
    body: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Place {
    /// Nothing yet, of the connection's bodies under way.
    pub(crate) fn coming(&self) -> Taken {
        Taken::of(&self.0.room.coming)
    }

    /// Waits for room for an answer: whoever has left to wait for something comes back with it.
    pub(crate) async fn comes_back(&self) {
        let taken = self.0.room.take(&self.0.room.answers, 0).await;
        *lock(&self.0.answer) = Some(taken);
    }

    /// Waits for room for a body of so many bytes, which came whole, and for its answer.
    pub(crate) async fn has_body(&self, bytes: usize) {
        let taken = self.0.room.take(&self.0.room.bodies, bytes).await;
        *lock(&self.0.body) = Some(taken);
    }

    /// Leaves with what a whole answer of so many bytes takes, and gives the rest back. `None` if that is hardly anything.
    pub(crate) fn leave(&self, answer_bytes: usize) -> Option<OwnedSemaphorePermit> {
        let (answer, body) = (lock(&self.0.answer).take(), lock(&self.0.body).take());
        answer.or(body)?.split(answer_bytes / UNIT_BYTES).filter(|part| part.num_permits() > 0)
    }
}

fn lock(permit: &Mutex<Option<OwnedSemaphorePermit>>) -> MutexGuard<'_, Option<OwnedSemaphorePermit>> {
    permit.lock().expect("nobody panics while it holds a permit")
}
