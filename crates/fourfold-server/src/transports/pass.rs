//! What a WebSocket was let in with: it can be asked again for appends, ends, and can be renewed in-band.

use std::net::IpAddr;

use fourfold_access::{Credential, Place, Verb, Who};
use fourfold_protocol::{Refusal, StreamName};
use tokio::time::Instant;

use crate::{
    access::{Admitted, Term},
    caller::Connected,
    context::Context,
    limits::PING,
};

/// Who is on the other side, and for how long.
pub(crate) struct Pass {
    pub(crate) who: Who,
    /// Counts the connection among those of whoever it is.
    place: Option<Connected>,
    /// What the connection as such needs leave for.
    verb: Verb,
    term: Option<Term>,
    reminded: bool,
    renewed: bool,
    /// When the next ping is due, as the end of a term comes in between.
    pub(crate) ping_at: Instant,
}

/// What is due of a term.
pub(crate) enum Due {
    Nothing,
    /// The client should know that so many milliseconds are left.
    Notice(u64),
    Goodbye,
}

impl Pass {
    /// Of a connection that began while everybody might do everything.
    pub(crate) fn of_nobody(verb: Verb) -> Self {
        let (who, ping_at) = (Who::default(), Instant::now() + PING);
        Self { who, place: None, verb, term: None, reminded: false, renewed: false, ping_at }
    }

    /// `None` where everybody may do everything.
    pub(crate) fn of(admitted: Admitted, place: Option<Connected>, verb: Verb, context: &Context) -> Option<Self> {
        let Admitted { who, term, .. } = admitted;
        let ping_at = Instant::now() + PING;
        let asks = !context.settings.access.is_open();
        asks.then_some(Self { who, place, verb, term, reminded: false, renewed: false, ping_at })
    }

    /// When to look at [`due`](Self::due) again.
    pub(crate) fn alarm(&self) -> Option<Instant> {
        self.term.map(|term| if self.reminded { term.leave_at } else { term.notice_at })
    }

    /// What is due, which is taken as done.
    pub(crate) fn due(&mut self, now: Instant) -> Due {
        match self.term {
            Some(term) if now >= term.leave_at => Due::Goodbye,
            Some(term) if now >= term.notice_at && !self.reminded => {
                self.reminded = true;
                self.left_ms(now).map_or(Due::Nothing, Due::Notice)
            }
            _ => Due::Nothing,
        }
    }

    /// How long is left before the goodbye.
    pub(crate) fn left_ms(&self, now: Instant) -> Option<u64> {
        let left = self.term?.leave_at.saturating_duration_since(now);
        Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }

    /// Whether it was renewed since it was last asked.
    pub(crate) fn renewed(&mut self) -> bool {
        std::mem::take(&mut self.renewed)
    }

    /// Takes another token. Errors: it is not good for this connection; nothing has changed then. Not cancel-safe in that it may have.
    pub(crate) async fn renew(
        &mut self,
        token: &str,
        name: &StreamName,
        peer: Option<IpAddr>,
        context: &Context,
    ) -> Result<(), Refusal> {
        let access = &context.settings.access;
        // It was said on purpose, as in a header.
        let who = access.identify(Some(Credential { token, place: Place::Header })).await?;
        let grant = access.judge(&who, self.verb, name.as_str(), peer).await?;
        if who.key() != self.who.key() {
            self.place = context.limits.token_connect(who.key())?;
        }
        (self.who, self.term) = (who, grant.expires_at.map(Term::of));
        (self.reminded, self.renewed) = (false, true);
        Ok(())
    }
}
