//! How many keys a second come from a backup into a fresh store, and with how much memory?
//!
//! Each key brings its entry of the trail, so twice as many values are written. Backup and restore
//! are processes of their own. The backup and the restored stores lie in memory, where the machine has
//! such a place, or in the directory that `DIR` names; so does the store that the backup is of, unless
//! `STORE` names a directory in which it is made once and kept.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "support/furnished.rs"]
mod support;

use portcullis::{Actor, Offline, Store, backup::LaterEvidence};
use std::{fs::File, time::Instant};

fn main() {
    if let Some(arguments) = support::as_child() {
        let [work, from, to] = arguments.try_into().unwrap();
        let begun = Instant::now();
        if work.as_os_str() == "backup" {
            let store = Store::open(from).unwrap();
            let begun = Instant::now();
            store.backup(File::create(to).unwrap(), |_| ()).unwrap();
            support::tell(begun);
        } else {
            let from = File::open(from).unwrap();
            Offline::new().restore(from, to, &LaterEvidence::Unknown, Actor::Host, |_| ()).unwrap();
            support::tell(begun);
        }
        return;
    }
    let room = support::room();
    let dir = support::furnish(room.path());
    let file = room.path().join("backup");
    let taken = support::child(&["backup".as_ref(), dir.as_os_str(), file.as_os_str()]);
    let keys = f64::from(u32::try_from(support::keys()).unwrap());
    let mib = file.metadata().unwrap().len() >> 20;
    println!("{keys} keys, a backup of {mib} MiB in {}", room.path().display());
    println!("backup: {:.0} keys a second", keys / taken.seconds);
    let rounds = if support::is_measured() { 3 } else { 1 };
    let mut children = Vec::new();
    for round in 0..rounds {
        let new = room.path().join(format!("new {round}"));
        let arguments = ["restore".as_ref(), file.as_os_str(), new.as_os_str()];
        children.push(support::child(&arguments));
        std::fs::remove_dir_all(new).unwrap();
    }
    let of =
        |figure: fn(&support::Told) -> f64| support::median(children.iter().map(figure).collect());
    let (seconds, processor) = (of(|told| told.seconds), of(|told| told.processor_seconds));
    println!("restore: {:.0} keys a second, median of {rounds}", keys / seconds);
    println!("processor time {processor:.2} s, peak memory {:.0} MiB", of(|told| told.peak_mib));
}
