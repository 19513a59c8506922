//! With the feature `traces`.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use fourfold_protocol::Refusal;
use fourfold_stream::{Append, Appended, Stages};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Version};

use crate::{
    answer::{Answer, Refused},
    context::Context,
    limits::TRACE_STATE_BYTES_MAX,
};

/// Who traces appends; by default nobody.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<dyn Tracer>>);

/// Decides which appends are traced, and learns what became of those.
pub trait Tracer: fmt::Debug + Send + Sync {
    /// Whether the append that begins now, with these headers, is traced: to whom it is told then. Over WebSocket the headers are those of the handshake.
    /// Called for every append, on its shard: must be cheap and never wait.
    fn begin(&self, headers: &HeaderMap) -> Option<Telling>;
}

/// Is told an append that is over. Called once, on its shard: must be cheap and never wait.
pub type Telling = Box<dyn FnOnce(&Traced) + Send + Sync>;

/// What is told of an append.
#[derive(Debug)]
pub struct Traced {
    /// When it got how far in its engine.
    pub stages: Stages,
    /// When its answer had been handed to the socket, or there was nobody left to answer to.
    pub ended: Instant,
    /// Which HTTP it came by; none if it was a WebSocket.
    pub http: Option<Version>,
    /// Whether it came over TLS.
    pub secure: bool,
    /// How many records it had, once they were counted.
    pub records: Option<u64>,
    /// The bytes in them.
    pub bytes: u64,
    /// The engine has acknowledged it; whether as a duplicate.
    pub appended: Option<bool>,
    /// The status of the answer, if it was HTTP and there was one.
    pub status: Option<StatusCode>,
    /// The code of the refusal, if it was refused.
    pub refused: Option<&'static str>,
    /// Whether there was an answer at all.
    pub answered: bool,
}

impl Traces {
    /// All appends are shown to this one.
    #[must_use]
    pub fn to(tracer: Arc<dyn Tracer>) -> Self {
        Self(Some(tracer))
    }
}

/// An append that may be traced, to go along with it.
#[derive(Clone, Default)]
pub(crate) struct Trace(Option<Arc<Journey>>);

struct Journey {
    telling: Option<Telling>,
    traced: Mutex<Traced>,
}

impl Drop for Journey {
    fn drop(&mut self) {
        let traced = self.traced.get_mut().unwrap_or_else(PoisonError::into_inner);
        traced.ended = Instant::now();
        if let Some(telling) = self.telling.take() {
            telling(traced);
        }
    }
}

impl Journey {
    fn traced(&self) -> MutexGuard<'_, Traced> {
        self.traced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trace {
    /// Of a request that is an append. It goes along with the request if it is traced.
    pub(crate) fn begin<B>(request: &mut Request<B>, context: &Context) -> Self {
        let trace = Self::of(request.headers(), Some(request.version()), context);
        if trace.0.is_some() {
            request.extensions_mut().insert(trace.clone());
        }
        trace
    }

    fn of(headers: &HeaderMap, http: Option<Version>, context: &Context) -> Self {
        let Some(telling) = context.settings.traces.0.as_ref().and_then(|tracer| tracer.begin(headers)) else {
            return Self(None);
        };
        let traced = Traced {
            stages: Stages::default(),
            ended: Instant::now(),
            http,
            secure: context.settings.tls.is_some(),
            records: None,
            bytes: 0,
            appended: None,
            status: None,
            refused: None,
            answered: false,
        };
        Self(Some(Arc::new(Journey { telling: Some(telling), traced: Mutex::new(traced) })))
    }

    /// The one that goes along with a request.
    pub(crate) fn along(extensions: &Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// It is handed to its engine, which notes how far it comes.
    pub(crate) fn asks(&self, records: u64, bytes: u64, append: &mut Append) {
        if let Some(journey) = &self.0 {
            append.stages = Stages::begin();
            let mut traced = journey.traced();
            (traced.records, traced.bytes) = (Some(records), bytes);
            traced.stages = append.stages.clone();
        }
    }

    /// The engine has acknowledged it.
    pub(crate) fn appended(&self, appended: &Appended) {
        if let Some(journey) = &self.0 {
            journey.traced().appended = Some(appended.duplicate);
        }
    }

    /// This is what it gets over HTTP. It goes along with the answer.
    pub(crate) fn answered(&self, answer: &mut Answer) {
        if let Some(journey) = &self.0 {
            let refused = answer.extensions().get().map(|Refused(code)| code.as_str());
            {
                let mut traced = journey.traced();
                (traced.answered, traced.status, traced.refused) = (true, Some(answer.status()), refused);
            }
            answer.extensions_mut().insert(self.clone());
        }
    }

    /// This is what it gets over WebSocket.
    pub(crate) fn answered_by_message(&self, result: &Result<Appended, Refusal>) {
        if let Some(journey) = &self.0 {
            let mut traced = journey.traced();
            traced.answered = true;
            traced.refused = result.as_ref().err().map(|refusal| refusal.code.as_str());
        }
    }
}

/// Appends whose answers are on their way to the socket.
#[derive(Default)]
pub(crate) struct HandedOver(Vec<Trace>);

impl HandedOver {
    /// This answer will be written with the next ones.
    pub(crate) fn soon(&mut self, answer: &mut Answer) {
        self.0.extend(answer.extensions_mut().remove::<Trace>());
    }

    /// The same of a message.
    pub(crate) fn soon_by_message(&mut self, trace: Trace) {
        self.0.extend(trace.0.is_some().then_some(trace));
    }

    /// They were written, and are over.
    pub(crate) fn now(&mut self) {
        self.0.clear();
    }
}

/// What the appends of a WebSocket are a part of, as its handshake says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parent(Option<Box<HeaderMap>>);

impl Parent {
    /// As the headers of the handshake say.
    pub(crate) fn of(headers: &HeaderMap, context: &Context) -> Self {
        if context.settings.traces.0.is_none() || !headers.contains_key(CONTEXT[0]) {
            return Self(None);
        }
        let kept = CONTEXT.into_iter().filter_map(|name| {
            let value = headers.get(name).filter(|value| value.len() <= TRACE_STATE_BYTES_MAX)?;
            // Copied, because a part would keep the buffer of the whole head, and for as long as the connection is there.
            Some((HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).ok()?))
        });
        Self(Some(Box::new(kept.collect())))
    }

    /// An append begins.
    pub(crate) fn begin(&self, context: &Context) -> Trace {
        match &self.0 {
            Some(headers) => Trace::of(headers, None, context),
            None => Trace::of(&HeaderMap::new(), None, context),
        }
    }
}

/// What says of which trace a request is a part. Spec: W3C Trace Context.
const CONTEXT: [&str; 2] = ["traceparent", "tracestate"];
