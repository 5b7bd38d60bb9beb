//! Keys per second that a restore writes from a backup into a new store, and its peak memory.
//!
//! Each key has an audit entry, so a restore writes twice as many values. Backup and restore run in
//! processes of their own. The backup and the stores are in memory where the system has `/dev/shm`, or
//! in the directory `DIR`. `STORE` names a directory in which the original store is kept from run to
//! run.

#![expect(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench prints its figures, rounds them and fails by panicking"
)]

mod support {
    pub(crate) mod arguments;
    pub(crate) mod child;
    pub(crate) mod issue;
    pub(crate) mod memory;
    pub(crate) mod populated;
    pub(crate) mod run;
    pub(crate) mod statistics;
}

use portcullis::{Actor, Offline, backup::LaterEvidence};
use std::{fs::File, time::Instant};
use support::{
    arguments::child_arguments,
    child::{Measurement, print_measurement, run_child},
    populated::{keys, populate, temporary_directory},
    run::is_measured,
    statistics::percentile,
};

fn main() {
    if let Some(arguments) = child_arguments() {
        let [operation, from, to] = arguments.try_into().unwrap();
        let begun = Instant::now();
        if operation.as_os_str() == "backup" {
            let store = portcullis_testkit::builder().open(from).unwrap();
            let begun = Instant::now();
            store.backup(File::create(to).unwrap(), |_| ()).unwrap();
            print_measurement(begun);
        } else {
            let from = File::open(from).unwrap();
            Offline::new().restore(from, to, &LaterEvidence::Unknown, Actor::Host, |_| ()).unwrap();
            print_measurement(begun);
        }
        return;
    }
    let parent = temporary_directory();
    let dir = populate(parent.path());
    let file = parent.path().join("backup");
    let taken = run_child(&["backup".as_ref(), dir.as_os_str(), file.as_os_str()]);
    let keys = f64::from(u32::try_from(keys()).unwrap());
    let mib = file.metadata().unwrap().len() >> 20;
    println!("{keys} keys, a backup of {mib} MiB in {}", parent.path().display());
    println!("backup: {:.0} keys a second", keys / taken.seconds);
    let rounds = if is_measured() { 3 } else { 1 };
    let mut children = Vec::new();
    for round in 0..rounds {
        let new = parent.path().join(format!("new {round}"));
        let arguments = ["restore".as_ref(), file.as_os_str(), new.as_os_str()];
        children.push(run_child(&arguments));
        std::fs::remove_dir_all(new).unwrap();
    }
    let median = |figure: fn(&Measurement) -> f64| {
        percentile(&mut children.iter().map(figure).collect::<Vec<_>>(), 0.5)
    };
    let (seconds, processor) =
        (median(|child| child.seconds), median(|child| child.processor_seconds));
    println!("restore: {:.0} keys a second, median of {rounds}", keys / seconds);
    println!(
        "processor time {processor:.2} s, peak memory {:.0} MiB",
        median(|child| child.peak_mib)
    );
}
