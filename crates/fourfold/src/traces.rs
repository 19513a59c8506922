//! Traces of appends, exported over OTLP/HTTP as the environment says. With the feature `otel`; a server without it says so if a collector is configured.
//!
//! ```text
//! receive ──────────────────────────────────────────────┐  from the head to the answer
//!           ├─ queue ─┤                                 │  waiting for its group
//!                     ├─ commit ─┤                      │  the group is written and synced
//!                                ├─ acknowledge ────────┤  until the answer is handed to the socket
//! ```
//!
//! The variables are those of OpenTelemetry; nothing is traced unless one of them names a collector.

#[cfg(not(feature = "otel"))]
mod absent;
#[cfg(feature = "otel")]
mod collector;
#[cfg(feature = "otel")]
mod otlp;

use std::env;

#[cfg(not(feature = "otel"))]
pub(crate) use absent::Exporting;
#[cfg(feature = "otel")]
pub(crate) use otlp::Exporting;

/// The variables that name a collector; the first one for traces alone, as it is.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// The variable that names a collector, and what it says, unless others switch tracing off.
fn endpoint() -> Option<(&'static str, String)> {
    let is_off = says("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"))
        || says("OTEL_TRACES_EXPORTER").is_some_and(|text| text == "none");
    if is_off {
        return None;
    }
    ENDPOINTS.into_iter().find_map(|name| says(name).map(|text| (name, text)))
}

/// A variable, unless it is empty.
fn says(name: &str) -> Option<String> {
    env::var(name).ok().filter(|text| !text.trim().is_empty())
}
