//! A store with many keys, and what a child process tells of itself.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stdout, reason = "each bench uses a part")]

use portcullis::{Expiry, Grant, Metadata, NewKey, Store};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Instant,
};

/// A measured run has a million keys; any other only shows that it works.
pub(crate) fn is_measured() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// How many keys there are: a million unless `KEYS` says otherwise.
pub(crate) fn keys() -> usize {
    let most = if is_measured() { 1_000_000 } else { 300 };
    std::env::var("KEYS").map_or(most, |text| text.parse().unwrap())
}

/// A place in the directory that `DIR` names; else in memory, where the machine has such a place, so
/// that what the disk does is not in the figure.
pub(crate) fn room() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    match std::env::var_os("DIR") {
        Some(here) => tempfile::tempdir_in(here),
        None if memory.is_dir() => tempfile::tempdir_in(memory),
        None => tempfile::tempdir(),
    }
    .unwrap()
}

/// The directory of a store with this many keys: in `room`, or where `STORE` says that one is kept
/// from run to run.
pub(crate) fn furnish(room: &Path) -> PathBuf {
    let dir = std::env::var_os("STORE").map_or_else(|| room.join("keys"), PathBuf::from);
    let store = Store::open(&dir).unwrap();
    let there = store.count();
    let wanted = keys().saturating_sub(there.active + there.inactive);
    thread::scope(|scope| {
        for writer in 0..64 {
            let store = &store;
            let share = wanted / 64 + usize::from(writer < wanted % 64);
            scope.spawn(move || (0..share).for_each(|number| issue(store, number)));
        }
    });
    dir
}

/// A key as they are: an owner, a note, two scopes.
pub(crate) fn issue(store: &Store, number: usize) {
    let new = NewKey {
        name: format!("key {number} of a customer"),
        grant: Grant::Scopes(store.scopes(["api.read", "api.write"]).unwrap()),
        active: true,
        expiry: Expiry::Never,
        owner: Some(format!("customer-{number}")),
        metadata: Metadata::from([("plan".to_owned(), "standard".to_owned())]),
    };
    store.issue(new).unwrap();
}

/// Runs this program anew with arguments, and gives what it prints of itself.
pub(crate) fn child(arguments: &[&std::ffi::OsStr]) -> Told {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).arg("child").args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap());
    let mut next = || numbers.next().unwrap();
    Told { seconds: next(), processor_seconds: next(), peak_mib: next() }
}

/// What a child tells of its work.
pub(crate) struct Told {
    pub(crate) seconds: f64,
    pub(crate) processor_seconds: f64,
    pub(crate) peak_mib: f64,
}

/// Tells the parent of work that began then.
pub(crate) fn tell(begun: Instant) {
    println!("{} {} {}", begun.elapsed().as_secs_f64(), processor_seconds(), peak_mib());
}

/// The arguments of a child, if this is one.
pub(crate) fn as_child() -> Option<Vec<PathBuf>> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == "child").then(|| arguments.map(PathBuf::from).collect())
}

/// The most memory that this process ever had, in MiB.
pub(crate) fn peak_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// How many seconds of processor time this process has taken, all threads together.
pub(crate) fn processor_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // After the name, which may hold anything: user and system time in hundredths of a second.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().skip(11).take(2).map(|n| n.parse::<f64>().unwrap() / 100.0).sum()
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap()
}
