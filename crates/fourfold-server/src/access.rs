//! Before anything is looked up: from which page a request comes, who sends it, and whether they may.
//!
//! ```text
//! origin ── credential ── identify ── judge ──► Admitted
//! ```
//!
//! All of it comes before a stream is opened, so that no refusal tells whether there is one. What is granted is granted
//! until [`Admitted::leave_at`]; a read that goes on says goodbye then.

pub(crate) mod credential;
mod origins;

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use fourfold_access::{Grant, Place, Verb, Who};
use fourfold_protocol::{Code, Refusal};
use http::{HeaderMap, HeaderValue, Request, Uri, header};
use tokio::time::Instant;

pub(crate) use credential::{AGREED_SUBPROTOCOL, agreed_subprotocol};
pub use origins::Origins;

use crate::{
    context::Context,
    limits::{EXPIRY_LEAD_MAX, EXPIRY_NOTICE_MAX},
    websocket::Handshake,
};

/// Leave to go on with a request.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    pub(crate) who: Who,
    /// Caches may give the answer to others.
    pub(crate) public: bool,
    /// There if the leave ends.
    pub(crate) term: Option<Term>,
}

/// When what was granted ends, for a read that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// Whoever can renew in-band is reminded.
    pub(crate) notice_at: Instant,
    /// Goodbye: early enough to come back with another token before this one is refused.
    pub(crate) leave_at: Instant,
}

impl Admitted {
    fn new(who: Who, grant: &Grant, place: Option<Place>) -> Self {
        // A URL with a token in it is nobody else's.
        let public = grant.public && place != Some(Place::Query);
        Self { who, public, term: grant.expires_at.map(Term::of) }
    }

    /// When to say goodbye, if ever.
    pub(crate) fn leave_at(&self) -> Option<Instant> {
        self.term.map(|term| term.leave_at)
    }
}

impl Term {
    /// Of a leave that ends then.
    pub(crate) fn of(expires_at: SystemTime) -> Self {
        // The one place where a wall clock meets the runtime's: what is left now is left from now on.
        let left = expires_at.duration_since(SystemTime::now()).unwrap_or_default().min(LEFT_MAX);
        let now = Instant::now();
        let lead = (left / 10).min(EXPIRY_LEAD_MAX);
        let notice = (left / 2).min(EXPIRY_NOTICE_MAX);
        // Within the leeway for wrong clocks nothing is left; even then a reader gets what is there.
        let leave_at = now + (left - lead).max(Duration::from_secs(1));
        Self { notice_at: (now + (left - notice)).min(leave_at), leave_at }
    }
}

/// Timers are not set further ahead than a year.
const LEFT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Lets a request go on, or says why not. `path` is what the verb is about: a stream's name, a call's, a control path.
pub(crate) async fn admit<B>(
    request: &Request<B>,
    verb: Verb,
    path: &str,
    peer: Option<IpAddr>,
    context: &Context,
) -> Result<Admitted, Refusal> {
    if let Some(admitted) = admit_open(request, context)? {
        return Ok(admitted);
    }
    // Boxed, so that a request to an open server does not carry what judges tokens.
    Box::pin(async {
        let introduced = introduce(request, context).await?;
        introduced.may(verb, path, peer, context).await
    })
    .await
}

/// Everybody's leave, where there are no rules.
fn admit_open<B>(request: &Request<B>, context: &Context) -> Result<Option<Admitted>, Refusal> {
    if !context.settings.access.is_open() {
        return Ok(None);
    }
    context.settings.origins.check_open(request)?;
    Ok(Some(Admitted { who: Who::default(), public: true, term: None }))
}

/// The same for the beginning of a call. On an open server the call's own `origins` decide about pages.
pub(crate) async fn admit_call<B>(
    request: &Request<B>,
    name: &str,
    peer: Option<IpAddr>,
    context: &Context,
) -> Result<Admitted, Refusal> {
    if context.settings.access.is_open() {
        return Ok(Admitted { who: Who::default(), public: true, term: None });
    }
    admit(request, Verb::Call, name, peer, context).await
}

/// Who asks, from a page that may.
#[derive(Debug)]
pub(crate) struct Introduced {
    pub(crate) who: Who,
    place: Option<Place>,
    /// What is wrong with the cookie of somebody who is nobody in particular for it.
    fault: Option<Box<Refusal>>,
}

/// Looks at the page and the token that a request comes with.
pub(crate) async fn introduce<B>(request: &Request<B>, context: &Context) -> Result<Introduced, Refusal> {
    let (access, origins) = (&context.settings.access, &context.settings.origins);
    if access.is_open() {
        origins.check_open(request)?;
        return Ok(Introduced { who: Who::default(), place: None, fault: None });
    }
    let upgrade = Handshake::is_wanted(request);
    let cookie = access.cookie_name();
    let found = credential::find(request, upgrade, cookie.as_deref(), access.query_name())?;
    let place = found.as_ref().map(|found| found.place);
    origins.check(request, upgrade, place, context.settings.tls.is_some())?;
    let who = match access.identify(found.as_ref().map(credential::Found::credential)).await {
        // A browser sends it, whatever is asked for, and the page cannot take it back: what is for everybody stays so.
        Err(fault) if place == Some(Place::Cookie) && is_of_the_token(&fault) => {
            return Ok(Introduced { who: Who::default(), place: None, fault: Some(Box::new(fault)) });
        }
        known => known?,
    };
    context.limits.token_request(who.key())?;
    Ok(Introduced { who, place, fault: None })
}

fn is_of_the_token(fault: &Refusal) -> bool {
    matches!(fault.code, Code::InvalidToken | Code::ExpiredToken)
}

impl Introduced {
    /// Whoever it is, if what they brought is good: for answers that show each what they may see.
    pub(crate) fn known(&self) -> Result<&Who, Refusal> {
        self.fault.as_ref().map_or(Ok(&self.who), |fault| Err((**fault).clone()))
    }

    /// Whether they may do this; can be asked about several things.
    pub(crate) async fn may(
        &self,
        verb: Verb,
        path: &str,
        peer: Option<IpAddr>,
        context: &Context,
    ) -> Result<Admitted, Refusal> {
        let judged = context.settings.access.judge(&self.who, verb, path, peer).await;
        let grant = judged.map_err(|refusal| match &self.fault {
            Some(fault) if matches!(refusal.code, Code::MissingToken | Code::NotPermitted) => (**fault).clone(),
            _ => refusal,
        })?;
        if verb == Verb::Append {
            context.limits.token_append(self.who.key())?;
        }
        Ok(Admitted::new(self.who.clone(), &grant, self.place))
    }
}

/// What a GET of a stream wants: a WebSocket without records only appends.
pub(crate) fn reading<B>(request: &Request<B>) -> Verb {
    let mut parameters = request.uri().query().unwrap_or_default().split('&');
    let only_appends = Handshake::is_wanted(request) && parameters.any(|parameter| parameter == "records=none");
    if only_appends { Verb::Append } else { Verb::Read }
}

/// The page that may read the answer although it sends a cookie from another origin: CORS wants it named then.
pub(crate) fn page_with_cookies(headers: &HeaderMap, context: &Context) -> Option<HeaderValue> {
    let access = &context.settings.access;
    if access.is_open() {
        return None;
    }
    let origin = headers.get(header::ORIGIN)?;
    let named = access.cookie_name().is_some() && context.settings.origins.names(origin);
    named.then(|| origin.clone())
}

/// The server as the client knows it: of HTTP/2 it is in the URL.
pub(crate) fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let host = || headers.get(header::HOST).and_then(|host| host.to_str().ok());
    uri.authority().map(http::uri::Authority::as_str).or_else(host).filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn goodbye_comes_before_the_end_and_notice_before_goodbye() {
        let now = Instant::now();
        for (left, notice_s, leave_s) in [(3600, 3570, 3595), (20, 10, 18), (0, 0, 1)] {
            let term = Term::of(SystemTime::now() + Duration::from_secs(left));
            let seconds = |at: Instant| (at - now).as_secs_f64().round() as u64;
            assert_eq!((seconds(term.notice_at), seconds(term.leave_at)), (notice_s, leave_s), "{left}");
            assert!(term.notice_at <= term.leave_at);
        }
        assert!(Term::of(SystemTime::UNIX_EPOCH).leave_at <= now + Duration::from_secs(1));
    }
}
