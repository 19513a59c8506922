//! What a run found, in the shape of its JSON.
//!
//! Members are added, not renamed or removed, while `fourfoldBench` is 1. A figure that is not known is `null`. Times are in
//! microseconds, memory in bytes. *Measured* is what was due within the measured time, warm-up excluded; losses and the like
//! are counted over the whole run.
//!
//! ```text
//! {
//!   "fourfoldBench": 1,
//!   "plan": {"target": "fourfold|durable-streams|nchan|socketio|floor", "transport": "websocket", "subscribers": 1000,
//!            "streams": 1, "rate": 50.0|null, "writers": 1, "inFlight": 1, "batch": 1, "recordBytes": 128, "seconds": 10,
//!            "warmUpSeconds": 1, "idle": 0, "stalled": 0, "intervalMs": 1000},
//!   "appended": {"acknowledged": 550, "measured": 500, "refused": 0, "unanswered": 0, "unsent": 0, "perSecond": 50.0,
//!                "latency": LATENCY},                     from the intended time to the acknowledgement; null for the floor
//!   "delivered": {"records": 550000, "measured": 500000, "lost": 0, "duplicates": 0, "outOfOrder": 0, "cut": 0,
//!                 "perSecond": 50000.0, "latency": LATENCY},   from the intended time to the reader
//!   "wire": {"requests": 1000, "requestsPerDelivery": 0.002, "bytesReceived": 1, "bytesReceivedPerDelivery": 260.0,
//!            "bytesSentPerDelivery": 0.2, "reads": 500000},   of the readers, in the measured time
//!   "connections": {"opened": 1000, "failed": 0, "ended": 0, "reconnected": 0, "refused": 0},
//!   "server": null | {"pid": 1, "processes": 1, "cpuMicros": 1, "cpuMicrosPerDelivery": 7.0, "cpuMicrosPerAppend": 7.0,
//!              "cpuMicrosPerRequest": null, "pssBytesAtStart": 1, "pssBytesWithIdle": 1, "pssBytesWithSubscribers": 1,
//!              "pssBytesAtEnd": 1, "pssBytesPerIdle": 1.0|null, "pssBytesPerSubscriber": 1.0|null},
//!   "idle": null | {"readers": 10000, "answered": 10000},   how many got the one record appended to them at the end
//!   "generator": {"cpuMicros": 1, "cpuMicrosPerDelivery": 2.0, "readingCpuMicros": 1},
//!   "machine": {"cores": 2, "busy": 0.61|null},   the share of all cores' time in which something ran, whoever it was
//!   "firstError": null | "…"
//! }
//! LATENCY = null | {"count": 1, "min": 1, "mean": 1.0, "p50": 1, "p90": 1, "p99": 1, "p999": 1, "max": 1,
//!                   "distribution": [[0.0, 1], [0.5, 1], …, [1.0, 1]]}
//! ```
//!
//! `cpuMicrosPerRequest` is there for the transports that ask again and again.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Steps of a distribution in each halving of the distance to 1, enough for a smooth line.
const STEPS_A_HALVING: u32 = 4;

/// A run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// The version of this shape.
    pub(crate) fourfold_bench: u32,
    pub(crate) plan: Asked,
    pub(crate) appended: Option<Appended>,
    pub(crate) delivered: Delivered,
    pub(crate) wire: OnTheWire,
    pub(crate) connections: Connections,
    pub(crate) server: Option<Server>,
    pub(crate) idle: Option<Idle>,
    pub(crate) generator: Generator,
    pub(crate) machine: MachineUse,
    pub(crate) first_error: Option<String>,
}

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Asked {
    pub(crate) target: String,
    pub(crate) transport: String,
    pub(crate) subscribers: usize,
    pub(crate) streams: usize,
    /// Records a second and stream.
    pub(crate) rate: Option<f64>,
    pub(crate) writers: usize,
    pub(crate) in_flight: usize,
    pub(crate) batch: usize,
    pub(crate) record_bytes: usize,
    pub(crate) seconds: u64,
    pub(crate) warm_up_seconds: u64,
    pub(crate) idle: usize,
    pub(crate) stalled: usize,
    pub(crate) interval_ms: u64,
}

/// The way in.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Appended {
    pub(crate) acknowledged: u64,
    pub(crate) measured: u64,
    pub(crate) refused: u64,
    pub(crate) unanswered: u64,
    pub(crate) unsent: u64,
    pub(crate) per_second: f64,
    pub(crate) latency: Option<Latency>,
}

/// The way out.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Delivered {
    pub(crate) records: u64,
    pub(crate) measured: u64,
    pub(crate) lost: u64,
    pub(crate) duplicates: u64,
    pub(crate) out_of_order: u64,
    pub(crate) cut: u64,
    pub(crate) per_second: f64,
    pub(crate) latency: Option<Latency>,
}

/// What the readers sent and received.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OnTheWire {
    pub(crate) requests: u64,
    pub(crate) requests_per_delivery: Option<f64>,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_received_per_delivery: Option<f64>,
    pub(crate) bytes_sent_per_delivery: Option<f64>,
    pub(crate) reads: u64,
}

/// The readers' connections.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Connections {
    pub(crate) opened: u64,
    pub(crate) failed: u64,
    pub(crate) ended: u64,
    pub(crate) reconnected: u64,
    pub(crate) refused: u64,
}

/// The server's processes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Server {
    pub(crate) pid: u32,
    pub(crate) processes: usize,
    pub(crate) cpu_micros: u64,
    pub(crate) cpu_micros_per_delivery: Option<f64>,
    pub(crate) cpu_micros_per_append: Option<f64>,
    pub(crate) cpu_micros_per_request: Option<f64>,
    pub(crate) pss_bytes_at_start: u64,
    pub(crate) pss_bytes_with_idle: u64,
    pub(crate) pss_bytes_with_subscribers: u64,
    pub(crate) pss_bytes_at_end: u64,
    pub(crate) pss_bytes_per_idle: Option<f64>,
    pub(crate) pss_bytes_per_subscriber: Option<f64>,
}

/// The idle readers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Idle {
    pub(crate) readers: usize,
    pub(crate) answered: u64,
}

/// What measuring cost.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Generator {
    pub(crate) cpu_micros: u64,
    pub(crate) cpu_micros_per_delivery: Option<f64>,
    pub(crate) reading_cpu_micros: u64,
}

/// How busy the machine was with everything: on one that was always busy, latencies are those of its queue.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MachineUse {
    pub(crate) cores: usize,
    pub(crate) busy: Option<f64>,
}

/// A distribution of latencies.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) min: u64,
    pub(crate) mean: f64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
    /// Quantile and value.
    pub(crate) distribution: Vec<(f64, u64)>,
}

impl Latency {
    /// `None` of nothing.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let steps = histogram.iter_quantiles(STEPS_A_HALVING);
        Some(Self {
            count: histogram.len(),
            min: histogram.min(),
            mean: histogram.mean(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
            distribution: steps.map(|step| (step.quantile_iterated_to(), step.value_iterated_to())).collect(),
        })
    }
}

impl Report {
    /// What a server must not do and did, in words; `None` if it did all that it acknowledged.
    pub(crate) fn fault(&self) -> Option<String> {
        let Delivered { lost, duplicates, out_of_order, cut, .. } = self.delivered;
        let mut faults: Vec<String> =
            [(lost, "lost"), (duplicates, "twice"), (out_of_order, "out of order"), (cut, "cut short")]
                .into_iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, what)| format!("{count} {what}"))
                .collect();
        if let Some(appended) = &self.appended {
            let Appended { refused, unanswered, .. } = *appended;
            faults.extend((refused > 0).then(|| format!("{refused} appends refused")));
            faults.extend((unanswered > 0).then(|| format!("{unanswered} appends unanswered")));
        }
        if let Some(idle) = &self.idle
            && idle.answered != idle.readers as u64
        {
            faults.push(format!("{} of {} idle readers got their record", idle.answered, idle.readers));
        }
        let Connections { failed, ended, refused, .. } = self.connections;
        let broken = failed + ended + refused;
        faults.extend((broken > 0).then(|| format!("{broken} readers' connections failed")));
        if faults.is_empty() {
            return None;
        }
        let why = self.first_error.as_ref().map(|why| format!(" (first: {why})")).unwrap_or_default();
        Some(faults.join(", ") + &why)
    }
}

/// A share, if there is something to share.
pub(crate) fn per(amount: u64, count: u64) -> Option<f64> {
    (count > 0).then(|| amount as f64 / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tally::histogram;

    #[test]
    fn a_distribution_goes_from_the_least_to_the_greatest() {
        let mut latencies = histogram();
        assert!(Latency::of(&latencies).is_none());
        for us in 1..=1_000 {
            latencies.saturating_record(us);
        }
        let latency = Latency::of(&latencies).unwrap();
        assert_eq!((latency.min, latency.p50, latency.p99, latency.max), (1, 500, 990, 1_000));
        assert_eq!(latency.distribution.last(), Some(&(1.0, 1_000)));
        assert!(latency.distribution.is_sorted());
    }
}
