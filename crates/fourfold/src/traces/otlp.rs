//! Appends as spans, on their way to the collector.
//!
//! Whether an append is traced is decided when it begins, and its spans are made when it is over, from what was noted on the way. They wait in a bounded queue
//! for a thread of the exporter's own; a full queue drops them. So a collector that hangs costs appends nothing.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use fourfold_server::{
    Telling, Traced, Tracer, Traces,
    limits::{
        TRACE_EXPORT_WAIT_MAX, TRACE_FLUSH_WAIT_MAX, TRACE_SPANS_SENT_MAX, TRACE_SPANS_WAITING_MAX,
        TRACE_STATE_BYTES_MAX,
    },
};
use http::{HeaderMap, Version};
use opentelemetry::{
    Context, Key, KeyValue, Value,
    propagation::{Extractor, TextMapPropagator},
    trace::{Span as _, SpanKind, Status, TraceContextExt, Tracer as _, TracerProvider as _},
};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, Span},
};
use url::Url;

use super::{collector::Collector, endpoint, says};

/// The traces of a server, while it runs.
pub(crate) struct Exporting {
    provider: Option<SdkTracerProvider>,
    keeps: bool,
}

impl Exporting {
    /// As the environment says. `durability` is how what was acknowledged is kept, in a word, if it does not end with the process.
    ///
    /// Errors: a variable that cannot be meant; the text names it, and does not repeat what it says, which may be secret.
    pub(crate) fn begin(durability: Option<&'static str>) -> Result<Self, String> {
        let keeps = durability.is_some();
        let Some((variable, endpoint)) = endpoint() else { return Ok(Self { provider: None, keeps }) };
        let is_url = Url::parse(&endpoint).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if !is_url {
            return Err(format!("{variable} is not the URL of a collector, such as http://127.0.0.1:4318"));
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary) // The only one there is here, whatever OTEL_EXPORTER_OTLP_PROTOCOL says.
            .with_timeout(wait())
            .with_http_client(Collector::new(wait()))
            .build()
            .map_err(|error| format!("appends cannot be traced: {error}"))?;
        let queue = BatchConfigBuilder::default()
            .with_max_queue_size(TRACE_SPANS_WAITING_MAX)
            .with_max_export_batch_size(TRACE_SPANS_SENT_MAX)
            .build();
        // The sampler is the one that OTEL_TRACES_SAMPLER names.
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(queue).build())
            .with_resource(resource(durability))
            .build();
        tracing::info!(variable, "appends are traced");
        Ok(Self { provider: Some(provider), keeps })
    }

    /// For the server's settings.
    pub(crate) fn traces(&self) -> Traces {
        match &self.provider {
            Some(provider) => Traces::to(Arc::new(Appends { tracer: provider.tracer("fourfold"), keeps: self.keeps })),
            None => Traces::default(),
        }
    }

    /// Sends what is left, for a while. Waits.
    pub(crate) fn end(self) {
        let Some(provider) = self.provider else { return };
        if let Err(error) = provider.shutdown_with_timeout(TRACE_FLUSH_WAIT_MAX) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// How long one export may take.
fn wait() -> Duration {
    let said = says("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT").or_else(|| says("OTEL_EXPORTER_OTLP_TIMEOUT"));
    let wait = said.and_then(|text| text.trim().parse().ok()).map(Duration::from_millis);
    wait.map_or(TRACE_EXPORT_WAIT_MAX, |wait| wait.min(TRACE_EXPORT_WAIT_MAX))
}

/// Who we are: as the environment says, and where it is silent as we know.
fn resource(durability: Option<&'static str>) -> Resource {
    let said = Resource::builder().build();
    let is_silent = |key: &KeyValue| match said.get(&key.key) {
        None => true,
        Some(value) => key.key.as_str() == SERVICE_NAME && value.as_str().starts_with("unknown_service"),
    };
    let known = [
        KeyValue::new(SERVICE_NAME, "fourfold"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("fourfold.durability", durability.unwrap_or("none")),
    ];
    Resource::builder().with_attributes(known.into_iter().filter(is_silent)).build()
}

const SERVICE_NAME: &str = "service.name";

/// Makes spans of appends.
#[derive(Debug)]
struct Appends {
    tracer: SdkTracer,
    /// Whether what is acknowledged outlives the process.
    keeps: bool,
}

impl Tracer for Appends {
    fn begin(&self, headers: &HeaderMap) -> Option<Telling> {
        let clock = Clock::now();
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Carrier(headers));
        let receive = self.tracer.span_builder("receive").with_kind(SpanKind::Server).with_start_time(clock.began);
        let receive = self.tracer.build_with_context(receive, &parent);
        if !receive.span_context().is_sampled() {
            return None;
        }
        let (tracer, keeps) = (self.tracer.clone(), self.keeps);
        Some(Box::new(move |traced: &Traced| {
            let durable = keeps && traced.appended.is_some();
            tell(&tracer, receive, clock, traced, durable);
        }))
    }
}

/// When an append began, and so when everything else was: the clock of the wall is read once, so that no span lies outside of another.
#[derive(Clone, Copy)]
struct Clock {
    began: SystemTime,
    begun: Instant,
}

impl Clock {
    fn now() -> Self {
        Self { began: SystemTime::now(), begun: Instant::now() }
    }

    fn at(self, moment: Instant) -> SystemTime {
        self.began + moment.saturating_duration_since(self.begun)
    }
}

fn tell(tracer: &SdkTracer, mut receive: Span, clock: Clock, traced: &Traced, durable: bool) {
    let within = Context::new().with_remote_span_context(receive.span_context().clone());
    let part = |name: &'static str, from: Instant, to: Instant| {
        let span = tracer.span_builder(name).with_kind(SpanKind::Internal).with_start_time(clock.at(from));
        tracer.build_with_context(span, &within).end_with_timestamp(clock.at(to));
    };
    if let Some(marks) = traced.stages.marks() {
        part("queue", marks.asked, marks.taken.unwrap_or(traced.ended));
        if let Some(taken) = marks.taken {
            part("commit", taken, marks.committed.unwrap_or(traced.ended));
        }
        if let Some(committed) = marks.committed {
            part("acknowledge", committed, traced.ended);
        }
    }
    receive.set_attribute(KeyValue::new("fourfold.append.durable", durable));
    receive.set_attributes(attributes(traced));
    if let Some(why) = failure(traced) {
        receive.set_attribute(KeyValue::new("error.type", why));
        receive.set_status(Status::error(why));
    }
    receive.end_with_timestamp(clock.at(traced.ended));
}

/// By the semantic conventions where they have a word. Neither path nor name of the stream: names may be private.
fn attributes(traced: &Traced) -> Vec<KeyValue> {
    let number = |number: u64| Value::I64(i64::try_from(number).unwrap_or(i64::MAX));
    let mut all = Vec::new();
    let mut say = |key: &'static str, value: Value| all.push(KeyValue::new(Key::from_static_str(key), value));
    match traced.http {
        Some(version) => {
            say("http.request.method", "POST".into());
            say("http.route", "/v1/stream/{name}".into());
            let version = match version {
                Version::HTTP_2 => "2",
                Version::HTTP_10 => "1.0",
                _ => "1.1",
            };
            say("network.protocol.version", version.into());
            say("url.scheme", if traced.secure { "https" } else { "http" }.into());
        }
        None => {
            say("network.protocol.name", "websocket".into());
            say("url.scheme", if traced.secure { "wss" } else { "ws" }.into());
        }
    }
    if let Some(status) = traced.status {
        say("http.response.status_code", number(status.as_u16().into()));
    }
    if let Some(records) = traced.records {
        say("fourfold.append.records", number(records));
        say("fourfold.append.bytes", number(traced.bytes));
    }
    if let Some(duplicate) = traced.appended {
        say("fourfold.append.duplicate", duplicate.into());
    }
    all
}

/// In a word, if it was not done, or nobody was told.
fn failure(traced: &Traced) -> Option<&'static str> {
    traced.refused.or((!traced.answered).then_some(UNANSWERED))
}

/// Whoever appended has gone, or was cut off. Whether the append was done is told by its spans.
const UNANSWERED: &str = "unanswered";

/// What a request says of the trace that it is a part of.
struct Carrier<'a>(&'a HeaderMap);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let text = self.0.get(key)?.to_str().ok()?;
        (key != "tracestate" || text.len() <= TRACE_STATE_BYTES_MAX).then_some(text)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
