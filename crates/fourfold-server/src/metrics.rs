//! What the server tells Prometheus. Counted where it happens ([`Tally`]), added up when somebody asks; between two scrapes nothing grows.
//!
//! To add a family: a count in [`Tally`] (or here, if it happens outside the shards), and a line in [`Collector::encode`]. The page `docs/metrics.md` and the
//! dashboard are checked against what is told here.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use fourfold_calls::Calls;
use fourfold_protocol::Code;
use fourfold_stream::{
    Engine, EngineStats,
    meter::{CROWD, Count, Distribution, MICROS},
};
use fourfold_subscriptions::Subscriptions;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, prometheus_text},
    metrics::MetricType,
    registry::Registry,
};

use crate::{
    context::Drain,
    process,
    tally::{CLASSES, Handshake, Lone, Reason, Tally, Way, Wish},
    tls::Tls,
};

/// All counts of a server.
#[derive(Debug)]
pub(crate) struct Metrics {
    shards: Mutex<Vec<Arc<Tally>>>,
    pub(crate) accepted: Count,
    pub(crate) turned_away: Count,
    started: SystemTime,
    drain: Arc<Drain>,
    tls: Option<Tls>,
    served: Mutex<Option<Served>>,
}

/// What is there only while the server serves.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) calls: Calls,
}

/// The type of the text.
pub(crate) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

impl Metrics {
    pub(crate) fn new(drain: Arc<Drain>, tls: Option<Tls>) -> Self {
        Self {
            shards: Mutex::default(),
            accepted: Count::default(),
            turned_away: Count::default(),
            started: SystemTime::now(),
            drain,
            tls,
            served: Mutex::default(),
        }
    }

    /// The counts of one more shard.
    pub(crate) fn shard(&self) -> Arc<Tally> {
        let tally = Arc::<Tally>::default();
        self.shards().push(Arc::clone(&tally));
        tally
    }

    /// What there is to ask from now on; `None` lets it go.
    pub(crate) fn serves(&self, served: Option<Served>) {
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = served;
    }

    /// What there is to ask, while the server serves.
    pub(crate) fn served(&self) -> Option<Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All of it, as Prometheus reads it.
    pub(crate) fn exposition(self: &Arc<Self>) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Arc::clone(self)));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).expect("memory takes it");
        text
    }

    fn shards(&self) -> MutexGuard<'_, Vec<Arc<Tally>>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let shards = self.shards().clone();
        let served = self.served();
        let sum = |of: &dyn Fn(&Tally) -> &Lone| shards.iter().map(|tally| of(tally).get()).sum::<u64>();
        let mut page = Page(encoder);
        let ways = |of: &[Way]| of.to_vec();

        let held = [Way::Http, Way::LongPoll, Way::Portions, Way::Sse, Way::WebSocket];
        page.gauges(
            "fourfold_connections",
            "Connections that are open, by what they are doing.",
            held.into_iter().map(|way| {
                let (began, ended) =
                    (sum(&|tally| &tally.held[way as usize].0), sum(&|tally| &tally.held[way as usize].1));
                ([("transport", way.word())], began.saturating_sub(ended))
            }),
        )?;
        page.counter("fourfold_connections_accepted", "Connections that were accepted.", self.accepted.get())?;
        page.counter(
            "fourfold_connections_turned_away",
            "Connections that were closed at once, because all were taken or by a limit.",
            self.turned_away.get(),
        )?;
        page.counters(
            "fourfold_tls_handshakes",
            "Handshakes of TLS, by how they ended: distrusted are those whose client does not trust the certificate, unfit those with no version or cipher in common.",
            Handshake::ALL.iter().map(|how| ([("outcome", how.word())], sum(&|tally| &tally.handshakes[*how as usize]))),
        )?;
        if let Some(certificate) = self.tls.as_ref().and_then(Tls::certificate) {
            let ends = certificate.ends_at.duration_since(UNIX_EPOCH).unwrap_or_default();
            page.number(
                "fourfold_tls_certificate_expiry_timestamp_seconds",
                "When the certificate that is shown ends, in seconds since unix epoch; only where TLS is spoken.",
                ends.as_secs_f64(),
            )?;
        }
        let requests =
            Wish::ALL.iter().flat_map(|wish| CLASSES.iter().enumerate().map(move |(n, class)| (*wish, n, class)));
        page.counters(
            "fourfold_requests",
            "Requests by what they want and the class of the answer's status. A live read counts when it begins, as 2xx, over WebSocket as 1xx.",
            requests.map(|(wish, n, class)| {
                ([("kind", wish.word()), ("status", class)], sum(&|tally| &tally.requests[wish as usize][n]))
            }),
        )?;
        page.counters(
            "fourfold_refusals",
            "Refusals by their code, over HTTP and WebSocket.",
            Code::ALL.iter().map(|code| ([("code", code.as_str())], sum(&|tally| &tally.refusals[*code as usize]))),
        )?;
        page.counter(
            "fourfold_known_poll_hits",
            "Polls that got the 304 that was known already.",
            sum(&|t| &t.known_polls),
        )?;

        page.counter("fourfold_appends", "Appends of clients that are durable.", sum(&|t| &t.appends))?;
        page.counter(
            "fourfold_append_records",
            "Records in the appends of clients that are durable.",
            sum(&|t| &t.append_records),
        )?;
        page.counter(
            "fourfold_append_bytes",
            "Bytes of the records in the appends of clients that are durable.",
            sum(&|t| &t.append_bytes),
        )?;
        let mut appends = Distribution::empty(MICROS);
        shards.iter().for_each(|tally| appends.merge(&tally.append_micros.distribution()));
        page.seconds(
            "fourfold_append_duration_seconds",
            "How long an append took from its place in the order until it was durable.",
            &appends,
        )?;

        let delivering = ways(&[Way::ShortPoll, Way::LongPoll, Way::Portions, Way::Sse, Way::WebSocket]);
        let mut delivered = |name, help, of: &dyn Fn(&Tally, usize) -> u64| {
            let values = delivering.iter().map(|way| {
                let all = shards.iter().map(|tally| of(tally, *way as usize)).sum::<u64>();
                ([("transport", way.word())], all)
            });
            page.counters(name, help, values)
        };
        delivered("fourfold_deliveries", "Frames and answers that went to readers.", &|t, n| {
            t.delivered[n].frames.get()
        })?;
        delivered("fourfold_delivered_records", "Records that went to readers, each as often as it went.", &|t, n| {
            t.delivered[n].records.get()
        })?;
        delivered(
            "fourfold_delivered_bytes",
            "Bytes of frames and answers that went to readers, as they are written.",
            &|t, n| t.delivered[n].bytes.get(),
        )?;
        page.counter(
            "fourfold_gaps_told",
            "Readers that were told in a message that retention had passed them.",
            sum(&|t| &t.gaps),
        )?;
        page.counters(
            "fourfold_goodbyes",
            "Readers that were told goodbye, by reason.",
            Reason::ALL.iter().map(|reason| ([("reason", reason.word())], sum(&|t| &t.goodbyes[*reason as usize]))),
        )?;
        page.counter(
            "fourfold_stalled_readers",
            "Readers that took nothing for too long and were let go.",
            sum(&|t| &t.stalled),
        )?;

        let hot = served.as_ref().map_or(0, |served| served.engine.streams().count() as u64);
        page.gauge("fourfold_hot_streams", "Streams that are in memory.", hot)?;
        let stats = served.as_ref().and_then(|served| served.engine.stats()).unwrap_or_else(|| EngineStats {
            group_records: Distribution::empty(CROWD),
            sync_micros: Distribution::empty(MICROS),
            queue_ops: 0,
            queue_bytes: 0,
            disk_bytes: 0,
            disk_free_bytes: 0,
        });
        page.histogram(
            "fourfold_engine_group_records",
            "Records that went to the disk at one go; how many groups there were is its count.",
            &stats.group_records,
            1.0,
        )?;
        page.seconds("fourfold_engine_sync_duration_seconds", "How long a sync of the disk took.", &stats.sync_micros)?;
        page.gauge("fourfold_engine_queue_operations", "Operations that wait for the engine.", stats.queue_ops)?;
        page.gauge("fourfold_engine_queue_bytes", "Bytes of records that wait for the engine.", stats.queue_bytes)?;
        page.gauge("fourfold_engine_disk_bytes", "What the streams take on the disk.", stats.disk_bytes)?;
        page.gauge(
            "fourfold_engine_disk_free_bytes",
            "What is free on the disk of the streams.",
            stats.disk_free_bytes,
        )?;

        let calls = served.as_ref().map(|served| served.calls.counts()).unwrap_or_default();
        page.gauge("fourfold_calls_running", "Calls that run.", calls.running)?;
        page.counters(
            "fourfold_calls_ended",
            "Calls that have ended, by how.",
            calls.ended.into_iter().map(|(outcome, count)| ([("outcome", outcome)], count)),
        )?;
        let wakes = served.as_ref().map(|served| served.subscriptions.counts()).unwrap_or_default();
        page.gauge("fourfold_subscriptions", "Subscriptions that there are.", wakes.subscriptions)?;
        page.counters(
            "fourfold_wakes",
            "Wakes of workers: delivered to a webhook, failed to be, announced in a wake stream, claimed by a worker.",
            wakes.wakes.into_iter().map(|(outcome, count)| ([("outcome", outcome)], count)),
        )?;
        page.gauge(
            "fourfold_draining",
            "1 while the server sends everybody away before it ends.",
            u64::from(self.drain.begun()),
        )?;
        page.gauges(
            "fourfold_build_info",
            "Which version runs; always 1.",
            [([("version", env!("CARGO_PKG_VERSION"))], 1)],
        )?;

        let process = process::Usage::now();
        page.number("process_resident_memory_bytes", "Resident memory size in bytes.", process.resident_bytes as f64)?;
        page.encode_cpu(process.cpu_seconds)?;
        page.number("process_open_fds", "Number of open file descriptors.", process.open_files as f64)?;
        page.number("process_max_fds", "Maximum number of open file descriptors.", process.files_max as f64)?;
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        page.number(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            started.as_secs_f64(),
        )
    }
}

/// What is written to.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0
            .encode_descriptor(name, help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    fn counters<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'l str, &'l str); N], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&value, None)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn number(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauges<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'l str, &'l str); N], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn encode_cpu(&mut self, seconds: f64) -> fmt::Result {
        let help = "Total user and system CPU time spent in seconds.";
        self.0
            .encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, f64>(&seconds, None)
    }

    /// Of microseconds.
    fn seconds(&mut self, name: &str, help: &str, micros: &Distribution) -> fmt::Result {
        self.histogram(name, help, micros, 1e6)
    }

    fn histogram(&mut self, name: &str, help: &str, values: &Distribution, units: f64) -> fmt::Result {
        let bounds = values.bounds.iter().map(|bound| *bound as f64 / units).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(values.counts.iter().copied()).collect();
        self.0.encode_descriptor(name, help, None, MetricType::Histogram)?.encode_histogram::<NoLabelSet>(
            values.sum as f64 / units,
            values.count(),
            &buckets,
            None,
        )
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").finish_non_exhaustive()
    }
}
