//! What this process uses of the machine. Asked when somebody scrapes, on the operator's thread.

use std::fs;

/// What it uses at a moment; 0 for what the system does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) resident_bytes: u64,
    pub(crate) cpu_seconds: f64,
    pub(crate) open_files: u64,
    pub(crate) files_max: u64,
}

impl Usage {
    #[cfg(target_os = "linux")]
    pub(crate) fn now() -> Self {
        use rustix::{
            process::{Resource, getrlimit},
            time::{ClockId, clock_gettime},
        };
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            resident_bytes: resident_bytes().unwrap_or(0),
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            open_files: open_files(),
            files_max: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn now() -> Self {
        Self::default()
    }
}

#[cfg(target_os = "linux")]
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Newer kernels say how many there are; older ones have to be asked for each.
#[cfg(target_os = "linux")]
fn open_files() -> u64 {
    const FILES: &str = "/proc/self/fd";
    match fs::metadata(FILES).map_or(0, |files| files.len()) {
        0 => fs::read_dir(FILES).map_or(0, |files| files.count() as u64),
        told => told,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_something() {
        let usage = Usage::now();
        assert!(usage.resident_bytes > 1 << 20 && usage.cpu_seconds > 0.0, "{usage:?}");
        assert!(usage.open_files >= 3 && usage.files_max >= usage.open_files, "{usage:?}");
    }
}
