//! Work that a child process does and measures, so that its memory is its own.

use super::memory::memory_mib;
use std::{ffi::OsStr, fs, process::Command, time::Instant};

/// The measurements of a child process.
pub(crate) struct Measurement {
    pub(crate) seconds: f64,
    pub(crate) processor_seconds: f64,
    pub(crate) peak_mib: f64,
}

/// Runs this program as a child with these arguments, and returns the measurements it prints.
pub(crate) fn run_child(arguments: &[&OsStr]) -> Measurement {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).arg("child").args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap());
    let mut next = || numbers.next().unwrap();
    Measurement { seconds: next(), processor_seconds: next(), peak_mib: next() }
}

/// Prints the measurements of work that started at this time, for the parent process.
pub(crate) fn print_measurement(start: Instant) {
    println!("{} {} {}", start.elapsed().as_secs_f64(), processor_seconds(), memory_mib("VmHWM"));
}

/// Returns the processor time of this process, of all threads together.
fn processor_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // Fields 14 and 15 are user and system time in hundredths of a second. Skip the name, which may
    // contain spaces.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().skip(11).take(2).map(|n| n.parse::<f64>().unwrap() / 100.0).sum()
}
