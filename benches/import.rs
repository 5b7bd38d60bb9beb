//! How many keys a second come from a backup into a fresh store, and with how much memory?
//!
//! Each key brings its entry of the trail, so twice as many values are written. Backup and restore
//! are processes of their own. `STORE` names a directory in which the store is made once and kept.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod support;

use portcullis::{Actor, Store, backup::Later};
use std::{fs::File, time::Instant};

fn main() {
    if let Some(arguments) = support::as_child() {
        let [work, from, to] = arguments.try_into().unwrap();
        let begun = Instant::now();
        if work.as_os_str() == "backup" {
            let store = Store::open(from).unwrap();
            let begun = Instant::now();
            store.backup(File::create(to).unwrap(), |_| ()).unwrap();
            println!("{} {}", begun.elapsed().as_secs_f64(), support::peak_mib());
        } else {
            let from = File::open(from).unwrap();
            Store::builder().restore(from, to, &Later::Unknown, Actor::Host, |_| ()).unwrap();
            println!("{} {}", begun.elapsed().as_secs_f64(), support::peak_mib());
        }
        return;
    }
    let room = support::room();
    let dir = support::furnish(room.path());
    let file = room.path().join("backup");
    let (backup, _) = support::child(&["backup".as_ref(), dir.as_os_str(), file.as_os_str()]);
    let keys = f64::from(u32::try_from(support::keys()).unwrap());
    println!("{keys} keys, a backup of {} MiB", file.metadata().unwrap().len() >> 20);
    println!("backup: {:.0} keys a second", keys / backup);
    let rounds = if support::is_measured() { 3 } else { 1 };
    let (mut rates, mut peaks) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let new = room.path().join(format!("new {round}"));
        let arguments = ["restore".as_ref(), file.as_os_str(), new.as_os_str()];
        let (restore, peak) = support::child(&arguments);
        std::fs::remove_dir_all(new).unwrap();
        rates.push(keys / restore);
        peaks.push(peak);
    }
    println!("restore: {:.0} keys a second, median of {rounds}", support::median(rates));
    println!("peak memory: {:.0} MiB", support::median(peaks));
}
