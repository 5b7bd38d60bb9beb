//! The memory of this process.

/// Returns a field of `/proc/self/status` in MiB: `VmRSS` is resident now, `VmHWM` is the peak.
pub(crate) fn memory_mib(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
