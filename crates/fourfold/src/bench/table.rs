//! A report for people.

use std::fmt::{self, Display, Formatter};

use super::report::{Latency, Report};

/// Displays a report as lines of a name and its figures.
#[derive(Debug)]
pub(crate) struct Table<'a>(pub(crate) &'a Report);

impl Display for Table<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Report { plan, appended, delivered, wire, connections, server, idle, generator, machine, .. } = self.0;
        let rate = match plan.rate {
            _ if plan.writers == 0 => "nothing appended".to_owned(),
            Some(rate) => format!("{rate}/s each"),
            None => "as fast as acknowledged".to_owned(),
        };
        let readers = plural(plan.subscribers as u64, "subscriber");
        let streams = plural(plan.streams as u64, "stream");
        let (target, transport, bytes, seconds) = (&plan.target, &plan.transport, plan.record_bytes, plan.seconds);
        writeln!(out, "{target}, {transport}: {readers} of {streams}, {rate}, {bytes} B a record, {seconds} s\n")?;
        if let Some(appended) = appended {
            line(out, "appended", &format!("{} at {:.0}/s", counted(appended.measured), appended.per_second))?;
            line(out, "  acknowledged after", &latency(appended.latency.as_ref()))?;
            if appended.refused + appended.unanswered + appended.unsent > 0 {
                let [refused, unanswered, unsent] =
                    [appended.refused, appended.unanswered, appended.unsent].map(counted);
                line(
                    out,
                    "  not appended",
                    &format!("{refused} refused, {unanswered} unanswered, {unsent} not sent in time"),
                )?;
            }
        }
        line(out, "delivered", &format!("{} at {:.0}/s", counted(delivered.measured), delivered.per_second))?;
        line(out, "  after", &latency(delivered.latency.as_ref()))?;
        let [lost, twice, late, cut] =
            [delivered.lost, delivered.duplicates, delivered.out_of_order, delivered.cut].map(counted);
        line(out, "  faults", &format!("{lost} lost, {twice} twice, {late} out of order, {cut} cut short"))?;
        let broken = connections.failed + connections.ended + connections.refused;
        if broken + connections.reconnected > 0 {
            let text = format!(
                "{} failed, {} ended, {} refused, {} connected again",
                connections.failed, connections.ended, connections.refused, connections.reconnected
            );
            line(out, "  connections", &text)?;
        }
        line(
            out,
            "  each costs",
            &format!(
                "{} received, {} sent, {} requests",
                figure(wire.bytes_received_per_delivery, 1, " B"),
                figure(wire.bytes_sent_per_delivery, 1, " B"),
                figure(wire.requests_per_delivery, 3, "")
            ),
        )?;
        if server.as_ref().is_some_and(|server| server.cpu_micros_per_request.is_some()) {
            line(out, "  asked for by", &format!("{} requests", counted(wire.requests)))?;
        }
        if let Some(server) = server {
            let mut cpu = format!("{} a delivery", figure(server.cpu_micros_per_delivery, 2, " µs"));
            if appended.is_some() {
                cpu += &format!(", {} an append", figure(server.cpu_micros_per_append, 1, " µs"));
            }
            if server.cpu_micros_per_request.is_some() {
                cpu += &format!(", {} a request", figure(server.cpu_micros_per_request, 2, " µs"));
            }
            line(out, "server's CPU", &format!("{cpu}; {:.2} s in all", server.cpu_micros as f64 / 1e6))?;
            let mut memory = format!(
                "{:.1} MB at start, {:.1} MB with all readers, {:.1} MB at the end",
                server.pss_bytes_at_start as f64 / 1e6,
                server.pss_bytes_with_subscribers as f64 / 1e6,
                server.pss_bytes_at_end as f64 / 1e6
            );
            if server.pss_bytes_per_idle.is_some() {
                memory += &format!("; {} an idle reader", figure(server.pss_bytes_per_idle, 0, " B"));
            }
            line(out, "server's memory", &memory)?;
        }
        if let Some(idle) = idle {
            line(out, "idle readers", &format!("{} of {} got the record at the end", idle.answered, idle.readers))?;
        }
        let cost = figure(generator.cpu_micros_per_delivery, 2, " µs");
        line(out, "measuring cost", &format!("{cost} a delivery; {:.2} s in all", generator.cpu_micros as f64 / 1e6))?;
        let busy = machine.busy.map_or("-".into(), |busy| format!("{:.0} %", busy * 100.0));
        line(out, "the machine", &format!("{}, {busy} busy", plural(machine.cores as u64, "core")))
    }
}

fn line(out: &mut Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    writeln!(out, "{name:<20} {text}")
}

fn latency(latency: Option<&Latency>) -> String {
    let Some(latency) = latency else { return "-".into() };
    let ms = |us: u64| format!("{:.2}", us as f64 / 1e3);
    let Latency { p50, p90, p99, p999, max, .. } = *latency;
    format!("p50 {}, p90 {}, p99 {}, p99.9 {}, max {} ms", ms(p50), ms(p90), ms(p99), ms(p999), ms(max))
}

fn figure(value: Option<f64>, digits: usize, unit: &str) -> String {
    value.map_or("-".into(), |value| format!("{value:.digits$}{unit}"))
}

/// `1234567` as `1,234,567`.
fn counted(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn plural(count: u64, what: &str) -> String {
    format!("{} {what}{}", counted(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn great_numbers_can_be_read() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(counted), ["0", "999", "1,000", "1,234,567"]);
    }
}
