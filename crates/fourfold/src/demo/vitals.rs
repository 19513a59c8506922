//! This machine's vitals, out of the texts in `/proc`: load, memory, network and disk traffic.
//!
//! The texts are parsed by functions of the text alone; only [`Sample::take`] reads files.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use serde::Serialize;

/// The kernel counts a disk's traffic in these, whatever the disk's own block size.
const SECTOR_BYTES: u64 = 512;

/// What the machine says at one moment. Traffic is counted since it started.
#[derive(Debug)]
pub(crate) struct Sample {
    taken: Instant,
    load: f64,
    memory: f64,
    network: Traffic,
    disk: Traffic,
}

/// Bytes each way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Traffic {
    inward: u64,
    outward: u64,
}

/// One record of the stream `demo/vitals`.
#[derive(Debug, Serialize)]
pub(crate) struct Vitals {
    /// Which record this is, from 1, without holes.
    n: u64,
    /// When, in milliseconds since 1970.
    at: u64,
    /// How many tasks wanted to run, on average over the last minute.
    load: f64,
    /// In use, in percent.
    memory: f64,
    /// Bytes a second, over all interfaces.
    net_in: u64,
    net_out: u64,
    /// Bytes a second, over all disks.
    disk_read: u64,
    disk_write: u64,
}

/// A file of `/proc` that is not there or not as expected.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be used: {why}; the vitals need Linux")]
pub(crate) struct NoVitals {
    path: &'static str,
    why: io::Error,
}

impl Sample {
    /// Reads four small files.
    pub(crate) fn take() -> Result<Self, NoVitals> {
        Ok(Self {
            taken: Instant::now(),
            load: parsed("/proc/loadavg", load)?,
            memory: parsed("/proc/meminfo", memory)?,
            network: parsed("/proc/net/dev", network)?,
            disk: parsed("/proc/diskstats", |text| Some(disk(text)))?,
        })
    }

    /// The record for the time since `earlier`.
    pub(crate) fn since(&self, earlier: &Self, n: u64, at: u64) -> Vitals {
        let elapsed = self.taken.duration_since(earlier.taken);
        Vitals {
            n,
            at,
            load: self.load,
            memory: self.memory,
            net_in: per_second(earlier.network.inward, self.network.inward, elapsed),
            net_out: per_second(earlier.network.outward, self.network.outward, elapsed),
            disk_read: per_second(earlier.disk.inward, self.disk.inward, elapsed),
            disk_write: per_second(earlier.disk.outward, self.disk.outward, elapsed),
        }
    }
}

fn parsed<T>(path: &'static str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, NoVitals> {
    let unexpected = || io::Error::new(io::ErrorKind::InvalidData, "its text is not as expected");
    fs::read_to_string(path).and_then(|text| parse(&text).ok_or_else(unexpected)).map_err(|why| NoVitals { path, why })
}

/// A counter that went back (an interface was removed) counts as no traffic.
fn per_second(earlier: u64, later: u64, elapsed: Duration) -> u64 {
    let nanos = elapsed.as_nanos().max(1);
    let bytes = u128::from(later.saturating_sub(earlier));
    u64::try_from(bytes * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

/// `/proc/loadavg`: the average over one minute comes first.
fn load(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

/// `/proc/meminfo`: the share that is not available, in percent to one decimal.
fn memory(text: &str) -> Option<f64> {
    let of = |name: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let total = of("MemTotal").filter(|total| *total > 0.0)?;
    Some(((total - of("MemAvailable")?) / total * 1000.0).round() / 10.0)
}

/// `/proc/net/dev`: bytes received and sent, over all interfaces.
fn network(text: &str) -> Option<Traffic> {
    let mut sum = Traffic::default();
    for line in text.lines().skip(2) {
        let (_, counters) = line.split_once(':')?;
        let mut counters = counters.split_whitespace().map(str::parse::<u64>);
        sum.inward += counters.next()?.ok()?;
        sum.outward += counters.nth(7)?.ok()?;
    }
    Some(sum)
}

/// `/proc/diskstats`: bytes read and written, over whole disks. A line that is not as expected is passed over: kernels
/// differ in how many columns there are.
fn disk(text: &str) -> Traffic {
    let names: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    let mut sum = Traffic::default();
    for line in text.lines() {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let sectors = |column: usize| columns.get(column)?.parse::<u64>().ok();
        if let (Some(name), Some(read), Some(written)) = (columns.get(2), sectors(5), sectors(9))
            && is_disk(name, &names)
        {
            sum.inward += read * SECTOR_BYTES;
            sum.outward += written * SECTOR_BYTES;
        }
    }
    sum
}

/// Neither a partition (`sda1` beside `sda`, `nvme0n1p1` beside `nvme0n1`), which its disk has counted already, nor a
/// device that lies upon others or upon memory.
fn is_disk(name: &str, names: &[&str]) -> bool {
    let upon_others = ["loop", "ram", "zram", "dm-", "md"].iter().any(|kind| name.starts_with(kind));
    let is_part_of = |whole: &str| {
        let rest = name.strip_prefix(whole).map(|rest| rest.strip_prefix('p').unwrap_or(rest));
        rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    !upon_others && !names.iter().any(|whole| is_part_of(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_of_one_minute_comes_first() {
        assert_eq!(load("0.42 0.31 0.20 1/321 4711\n"), Some(0.42));
        assert_eq!(load(""), None);
    }

    #[test]
    fn memory_in_use_is_what_is_not_available() {
        let text = "MemTotal:        8000000 kB\nMemFree:          100000 kB\nMemAvailable:    4704000 kB\n";
        assert_eq!(memory(text), Some(41.2));
        assert_eq!(memory("MemTotal: 0 kB\nMemAvailable: 0 kB\n"), None);
        assert_eq!(memory("MemTotal: 10 kB\n"), None);
    }

    #[test]
    fn traffic_is_summed_over_all_interfaces() {
        let text = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0:12345678     900    0    0    0     0          0         0  2345678     800    0    0    0     0       0          0
";
        assert_eq!(network(text), Some(Traffic { inward: 12_345_778, outward: 2_345_778 }));
        assert_eq!(network("a\nb\nno colon"), None);
    }

    #[test]
    fn only_whole_disks_count() {
        let text = "\
   7       0 loop0 10 0 999 0 0 0 999 0 0 0 0
   8       0 sda 10 0 100 0 10 0 200 0 0 0 0
   8       1 sda1 10 0 90 0 10 0 190 0 0 0 0
 259       0 nvme0n1 10 0 1 0 10 0 2 0 0 0 0 0 0 0 0 0 0
 259       1 nvme0n1p2 10 0 1 0 10 0 2 0 0 0 0 0 0 0 0 0 0
 252       0 dm-0 10 0 50 0 10 0 50 0 0 0 0
 254      16 vdb1 10 0 4 0 10 0 8 0 0 0 0
 short line
";
        assert_eq!(disk(text), Traffic { inward: 105 * 512, outward: 210 * 512 });
    }

    #[test]
    fn a_rate_is_bytes_over_time_and_never_negative() {
        assert_eq!(per_second(1000, 2000, Duration::from_millis(250)), 4000);
        assert_eq!(per_second(2000, 1000, Duration::from_millis(250)), 0);
        assert_eq!(per_second(0, 0, Duration::ZERO), 0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_vitals() {
        let earlier = Sample::take().unwrap();
        let vitals = Sample::take().unwrap().since(&earlier, 1, 2);
        assert!(vitals.load >= 0.0);
        assert!((0.0..=100.0).contains(&vitals.memory));
        let json = serde_json::to_value(&vitals).unwrap();
        let members: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members.len(), 8);
        for member in ["n", "at", "load", "memory", "net_in", "net_out", "disk_read", "disk_write"] {
            assert!(members.contains(&member), "{member}");
        }
    }
}
