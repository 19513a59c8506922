//! What processes cost, read from `/proc`: CPU time and memory of a process with all its descendants.

use std::{collections::HashMap, fs, io, path::Path};

use rustix::time::{ClockId, clock_gettime};

/// What `stat` counts in: 100 a second on every Linux that is sold.
const TICK_US: u64 = 10_000;

/// The monotonic clock in µs: it is the same for every process of a machine.
pub(crate) fn now_us() -> u64 {
    micros(ClockId::Monotonic)
}

/// CPU time of this process in µs.
pub(crate) fn own_cpu_us() -> u64 {
    micros(ClockId::ProcessCPUTime)
}

/// CPU time of the calling thread in µs.
pub(crate) fn thread_cpu_us() -> u64 {
    micros(ClockId::ThreadCPUTime)
}

fn micros(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let whole = |part: i64| u64::try_from(part).unwrap_or(0);
    whole(time.tv_sec) * 1_000_000 + whole(time.tv_nsec) / 1_000
}

/// A process and its descendants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree {
    root: u32,
}

/// CPU time of a [`Tree`] at a moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cpu {
    /// By thread, in ns.
    threads: HashMap<(u32, u32), u64>,
    /// By process, in ticks, with the threads that have ended.
    processes: HashMap<u32, u64>,
}

impl Tree {
    /// The tree below this process. Errors: it is not there, or not ours to look at.
    pub(crate) fn of(root: u32) -> io::Result<Self> {
        let tree = Self { root };
        tree.pss_bytes()?;
        Ok(tree)
    }

    /// The process at the top.
    pub(crate) fn root(self) -> u32 {
        self.root
    }

    /// All processes of it that live now.
    pub(crate) fn processes(self) -> io::Result<Vec<u32>> {
        let mut parents: Vec<(u32, u32)> = Vec::new();
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            // It may have ended meanwhile.
            if let Some(parent) = stat(pid).ok().and_then(|fields| fields.get(1)?.parse().ok()) {
                parents.push((pid, parent));
            }
        }
        let mut tree = vec![self.root];
        let mut seen = 0;
        while let Some(parent) = tree.get(seen).copied() {
            tree.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            seen += 1;
        }
        Ok(tree)
    }

    /// CPU time so far.
    pub(crate) fn cpu(self) -> io::Result<Cpu> {
        let mut cpu = Cpu::default();
        for pid in self.processes()? {
            let Ok(fields) = stat(pid) else { continue };
            let ticks = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
            cpu.processes.insert(pid, ticks(11) + ticks(12));
            let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            for task in tasks.flatten() {
                let Some(tid) = task.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
                if let Some(ns) = run_ns(&task.path()) {
                    cpu.threads.insert((pid, tid), ns);
                }
            }
        }
        if cpu.processes.contains_key(&self.root) {
            Ok(cpu)
        } else {
            Err(io::Error::new(io::ErrorKind::NotFound, format!("process {} has ended", self.root)))
        }
    }

    /// Proportional memory, in bytes: shared pages count in parts, so that processes add up.
    pub(crate) fn pss_bytes(self) -> io::Result<u64> {
        let mut bytes = 0;
        for pid in self.processes()? {
            match fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
                Ok(rollup) => bytes += pss(&rollup).unwrap_or(0),
                Err(error) if pid == self.root => return Err(error),
                Err(_) => {} // A child that has ended.
            }
        }
        Ok(bytes)
    }
}

impl Cpu {
    /// µs from `before` to this. Threads are counted in ns; what threads used that have ended since, only in whole ticks.
    pub(crate) fn since_us(&self, before: &Self) -> u64 {
        let mut us = 0;
        for (pid, ticks) in &self.processes {
            let of_threads: u64 = self
                .threads
                .iter()
                .filter(|((of, _), _)| of == pid)
                .map(|(thread, ns)| ns.saturating_sub(before.threads.get(thread).copied().unwrap_or(0)))
                .sum();
            let ticks = ticks.saturating_sub(before.processes.get(pid).copied().unwrap_or(0));
            us += (of_threads / 1_000).max((ticks * TICK_US).saturating_sub(TICK_US));
        }
        us
    }
}

/// What all cores have done since the start, in ticks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Machine {
    all: u64,
    idle: u64,
}

impl Machine {
    /// Until now; zeros if the system does not tell.
    pub(crate) fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let first = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = first.split_whitespace().skip(1).take(8).filter_map(|text| text.parse().ok()).collect();
        // Fields 3 and 4 are idle, and idle while a disk works.
        Self { all: ticks.iter().sum(), idle: ticks.iter().skip(3).take(2).sum() }
    }

    /// Which share of the time since `before` something ran.
    pub(crate) fn busy_since(&self, before: &Self) -> Option<f64> {
        let (all, idle) = (self.all.saturating_sub(before.all), self.idle.saturating_sub(before.idle));
        (all > 0).then(|| 1.0 - idle as f64 / all as f64)
    }
}

/// The fields of `stat` behind the name, which may hold anything: 0 is the state, 1 the parent, 11 and 12 are times.
fn stat(pid: u32) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(')').ok_or(io::ErrorKind::InvalidData)?;
    Ok(fields.split_whitespace().map(ToOwned::to_owned).collect())
}

fn run_ns(task: &Path) -> Option<u64> {
    fs::read_to_string(task.join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
}

fn pss(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_tree_counts_its_children_and_what_they_use() {
        let tree = Tree::of(std::process::id()).unwrap();
        let before = tree.cpu().unwrap();
        let mut child = Command::new("sh").args(["-c", "read line"]).stdin(Stdio::piped()).spawn().unwrap();
        assert!(tree.processes().unwrap().contains(&child.id()));
        let start = own_cpu_us();
        while own_cpu_us() - start < 30_000 {}
        assert!(tree.cpu().unwrap().since_us(&before) >= 30_000);
        assert!(tree.pss_bytes().unwrap() > 100_000);
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_is_not_there_is_told() {
        assert!(Tree::of(u32::MAX - 1).is_err());
    }
}
