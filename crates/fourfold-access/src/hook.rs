//! The hook: a backend of the user's own that is asked what neither rules nor claims decide.
//!
//! ```text
//! POST {"verb":"read","path":"news/today","subject":"ann","authenticated":true,"address":"192.0.2.1"}
//! 200  {"allow":true,"expires":60}     or 204, or 403
//! ```
//!
//! The same question is under way once, however many ask it, and its answer holds for a while, whichever it is. No answer is no leave.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    sync::{OnceCell, Semaphore},
    time::{Instant, timeout_at},
};
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::{
    HookOptions, Verb,
    backend::{Backend, Unanswered},
    limits::{ANSWERS_BYTES_MAX, ANSWERS_MAX, HOOK_AT_ONCE, HOOK_BYTES_MAX, HOOK_PAUSE},
    recent::Recent,
    who::Principal,
};

pub(crate) struct Hook {
    options: HookOptions,
    backend: Backend,
    permits: Semaphore,
    answers: Mutex<Recent<Question, Arc<OnceCell<Answer>>>>,
    silent_until: Mutex<Option<Instant>>,
}

/// What the backend said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// They may, until then.
    Allow(Option<SystemTime>),
    Deny,
    /// Nothing that can be understood.
    Nothing,
}

#[derive(Clone, Copy)]
struct Answer {
    said: Said,
    until: Instant,
}

/// All that the answer may depend on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Question {
    /// The subject, or the token if that is what the backend looks at.
    who: Option<Arc<str>>,
    authenticated: bool,
    verb: Verb,
    path: Box<str>,
    address: Option<IpAddr>,
}

/// Why the hook said nothing.
#[derive(Debug, thiserror::Error)]
enum Unsaid {
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    #[error("it answered {0}; 200, 204 and 403 are understood")]
    Status(StatusCode),
    #[error("its answer is not {{\"allow\":true}} or {{\"allow\":false}}")]
    Garbled,
    #[error("there was no place among the {HOOK_AT_ONCE} questions under way before the deadline")]
    Busy,
}

impl Hook {
    /// `roots` are trusted beside those of the system.
    pub(crate) fn new(options: HookOptions, roots: Vec<CertificateDer<'static>>) -> Self {
        Self {
            backend: Backend::new(options.url.clone(), roots),
            options,
            permits: Semaphore::new(HOOK_AT_ONCE),
            answers: Mutex::new(Recent::new(ANSWERS_MAX, ANSWERS_BYTES_MAX)),
            silent_until: Mutex::new(None),
        }
    }

    /// Asks, unless the answer is known. Waits for the deadline at most. Cancel-safe: who else waits for the same answer goes on.
    pub(crate) async fn ask(
        &self,
        principal: Option<&Principal>,
        verb: Verb,
        path: &str,
        address: Option<IpAddr>,
    ) -> Said {
        let who = match principal {
            Some(principal) if self.options.forward_token => Some(Arc::clone(&principal.token)),
            Some(principal) => principal.subject.as_deref().map(Arc::from),
            None => None,
        };
        let authenticated = principal.is_some_and(|principal| principal.verified);
        let question = Question { who, authenticated, verb, path: path.into(), address };
        let answer = self.answer(&question);
        answer.get_or_init(|| self.settle(&question, principal)).await.said
    }

    /// The answer that holds, or the place for the one to come.
    fn answer(&self, question: &Question) -> Arc<OnceCell<Answer>> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = answers.get(question).filter(|(answer, _)| holds(answer));
        if let Some((answer, false)) = known {
            return answer;
        }
        let answer = known.map(|(answer, _)| answer).unwrap_or_default();
        let weight =
            size_of::<Question>() + 2 * question.path.len() + question.who.as_ref().map_or(0, |who| who.len()) + 128;
        answers.insert(question.clone(), Arc::clone(&answer), weight);
        answer
    }

    async fn settle(&self, question: &Question, principal: Option<&Principal>) -> Answer {
        let said = self.put(question, principal).await;
        let now = Instant::now();
        match said {
            Ok(Verdict { allow: false, .. }) => Answer { said: Said::Deny, until: now + self.options.cache },
            Ok(Verdict { expires, .. }) => {
                let ends = expires.map(|seconds| Duration::from_secs(seconds.min(EXPIRES_SECONDS_MAX)));
                let holds = ends.map_or(self.options.cache, |ends| ends.min(self.options.cache));
                Answer { said: Said::Allow(ends.map(|ends| SystemTime::now() + ends)), until: now + holds }
            }
            Err(error) => {
                self.complain(&error);
                Answer { said: Said::Nothing, until: now + HOOK_PAUSE }
            }
        }
    }

    /// Says that nothing was said, and not as often as it is so.
    fn complain(&self, error: &Unsaid) {
        let mut silent_until = self.silent_until.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if silent_until.is_none_or(|until| until <= now) {
            *silent_until = Some(now + SILENCE);
            tracing::warn!(%error, "the access hook did not answer, so nothing was permitted; the same is not told for a while");
        }
    }

    async fn put(&self, question: &Question, principal: Option<&Principal>) -> Result<Verdict, Unsaid> {
        let end = Instant::now() + self.options.deadline;
        let _permit = match timeout_at(end, self.permits.acquire()).await {
            Ok(permit) => permit.expect("nobody closes the semaphore"),
            Err(_) => return Err(Unsaid::Busy),
        };
        let mut body = json!({
            "verb": question.verb.as_str(),
            "path": question.path,
            "subject": principal.and_then(|principal| principal.subject.as_deref()),
            "authenticated": question.authenticated,
            "address": question.address,
        });
        if let Some(principal) = principal.filter(|_| self.options.forward_token) {
            body["token"] = json!(&*principal.token);
        }
        let left = end.saturating_duration_since(Instant::now());
        let (status, answer) =
            self.backend.ask(Method::POST, Bytes::from(body.to_string()), HOOK_BYTES_MAX, left).await?;
        match status {
            StatusCode::NO_CONTENT => Ok(Verdict { allow: true, expires: None }),
            StatusCode::FORBIDDEN => Ok(Verdict { allow: false, expires: None }),
            StatusCode::OK => serde_json::from_slice(&answer).map_err(|_| Unsaid::Garbled),
            other => Err(Unsaid::Status(other)),
        }
    }
}

#[derive(Deserialize)]
struct Verdict {
    allow: bool,
    /// In seconds from now.
    expires: Option<u64>,
}

/// Between two lines of the log about a hook that is down.
const SILENCE: Duration = Duration::from_secs(10);

/// A year: so that sums with the clock cannot overflow.
const EXPIRES_SECONDS_MAX: u64 = 366 * 24 * 3600;

/// Whether it is still to come, or still good.
fn holds(answer: &OnceCell<Answer>) -> bool {
    answer.get().is_none_or(|answer| Instant::now() < answer.until)
}
