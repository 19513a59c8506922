//! What a run has measured, and the report that is made of it.

use std::thread;

use super::{
    args::Transport,
    plan::{Plan, typed},
    probe::{Cpu, Machine, Tree},
    report::{
        Appended, Asked, Connections, Delivered, Generator, Idle, Latency, MachineUse, OnTheWire, Report, Server, per,
    },
    tally::{Counts, Tally},
    writers::Written,
};

/// All but the readers' own counts.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) memory: Memory,
    /// When the measured time began.
    pub(crate) before: Moment,
    /// When the last record had come, or was given up.
    pub(crate) after: Moment,
    /// `None`: nobody wrote, as the floor does that itself.
    pub(crate) written: Option<Written>,
}

/// The server's memory at the stages of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) start: u64,
    pub(crate) with_idle: u64,
    pub(crate) with_subscribers: u64,
    pub(crate) end: u64,
}

/// Everything that only grows, at one moment.
#[derive(Debug)]
pub(crate) struct Moment {
    pub(crate) us: u64,
    pub(crate) counts: Counts,
    pub(crate) server: Option<Cpu>,
    pub(crate) own_us: u64,
    pub(crate) machine: Machine,
}

impl Outcome {
    /// What was found, with what the readers had.
    pub(crate) fn report(&self, plan: &Plan, tree: Option<Tree>, tally: &Tally) -> Report {
        let Self { memory, before, after, .. } = self;
        let written = self.written.as_ref();
        let counts = tally.counts;
        let measured_seconds = |end_us: u64| end_us.saturating_sub(before.us).max(1) as f64 / 1e6;
        let expected = |subscriber: usize| match written {
            Some(written) => written.acknowledged[subscriber % plan.streams],
            None => plan.appends_a_stream().unwrap_or(0) * plan.batch as u64,
        };
        let lost = tally.new_of_each().iter().enumerate().map(|(n, had)| expected(n).saturating_sub(*had)).sum();
        let requests = after.counts.requests - before.counts.requests;
        let received = after.counts.received - before.counts.received;
        let sent = after.counts.sent - before.counts.sent;
        // What happened in the time that CPU was counted in, which is a little more or less than what was due in it.
        let deliveries = after.counts.delivered - before.counts.delivered;
        let appends = written.map_or(0, |written| written.measured);
        let polls = !matches!(plan.transport, Transport::Websocket | Transport::Sse | Transport::Portions);
        // Nobody knows what a server used that has ended.
        let server = tree.zip(before.server.as_ref().zip(after.server.as_ref())).map(|(tree, (before, after))| {
            let requests = if polls { requests } else { 0 };
            server(plan, tree, memory, after.since_us(before), [deliveries, appends, requests])
        });
        let generator_us = after.own_us - before.own_us;
        Report {
            fourfold_bench: 1,
            plan: asked(plan),
            appended: written.map(|written| Appended {
                acknowledged: written.acknowledged.iter().sum(),
                measured: written.measured,
                refused: written.refused,
                unanswered: written.unanswered,
                unsent: written.unsent,
                per_second: written.measured as f64 / measured_seconds(written.end_us),
                latency: Latency::of(&written.latency),
            }),
            delivered: Delivered {
                records: counts.delivered,
                measured: counts.measured,
                lost,
                duplicates: counts.again,
                out_of_order: counts.late,
                cut: counts.cut,
                per_second: deliveries as f64 / measured_seconds(after.us),
                latency: Latency::of(&tally.latency),
            },
            wire: OnTheWire {
                requests,
                requests_per_delivery: per(requests, deliveries),
                bytes_received: received,
                bytes_received_per_delivery: per(received, deliveries),
                bytes_sent_per_delivery: per(sent, deliveries),
                reads: after.counts.reads - before.counts.reads,
            },
            connections: Connections {
                opened: counts.opened,
                failed: counts.failed,
                ended: counts.ended,
                reconnected: counts.reconnected,
                refused: counts.refused,
            },
            server,
            idle: (plan.idle > 0).then_some(Idle { readers: plan.idle, answered: counts.idle }),
            generator: Generator {
                cpu_micros: generator_us,
                cpu_micros_per_delivery: per(generator_us, deliveries),
                reading_cpu_micros: after.counts.cpu_us - before.counts.cpu_us,
            },
            machine: MachineUse {
                cores: thread::available_parallelism().map_or(1, usize::from),
                busy: after.machine.busy_since(&before.machine),
            },
            first_error: tally.first_error.clone().or_else(|| written.and_then(|written| written.first_error.clone())),
        }
    }
}

fn server(plan: &Plan, tree: Tree, memory: &Memory, cpu: u64, [deliveries, appends, requests]: [u64; 3]) -> Server {
    let Plan { idle, subscribers, stalled, .. } = *plan;
    Server {
        pid: tree.root(),
        processes: tree.processes().map_or(0, |processes| processes.len()),
        cpu_micros: cpu,
        cpu_micros_per_delivery: per(cpu, deliveries),
        cpu_micros_per_append: per(cpu, appends),
        cpu_micros_per_request: per(cpu, requests),
        pss_bytes_at_start: memory.start,
        pss_bytes_with_idle: memory.with_idle,
        pss_bytes_with_subscribers: memory.with_subscribers,
        pss_bytes_at_end: memory.end,
        pss_bytes_per_idle: per(memory.with_idle.saturating_sub(memory.start), idle as u64),
        pss_bytes_per_subscriber: per(
            memory.with_subscribers.saturating_sub(memory.with_idle),
            (subscribers + stalled) as u64,
        ),
    }
}

fn asked(plan: &Plan) -> Asked {
    Asked {
        target: if plan.floor.is_some() { "floor".into() } else { typed(plan.profile) },
        transport: typed(plan.transport),
        subscribers: plan.subscribers,
        streams: plan.streams,
        rate: plan.append_every.map(|every| plan.batch as f64 / every.as_secs_f64()),
        writers: plan.writers,
        in_flight: plan.in_flight,
        batch: plan.batch,
        record_bytes: plan.record_bytes,
        seconds: plan.measured.as_secs(),
        warm_up_seconds: plan.warm_up.as_secs(),
        idle: plan.idle,
        stalled: plan.stalled,
        interval_ms: u64::try_from(plan.interval.as_millis()).unwrap_or(u64::MAX),
    }
}
