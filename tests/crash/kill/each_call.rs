//! What is too short for random moments to find its edges: a child dies at its first call on files
//! within it, another at one of the next, and so on until one comes through. The short form leaves
//! some calls out; the long one takes each:
//!
//! ```text
//! PORTCULLIS_KILL_STRIDE=1 cargo test --release --test crash kill::each_call -- --nocapture
//! ```

use super::{HOME, tell};
use crate::{
    campaign::{Book, Findings, Hand, State, Witness},
    faults::{Faults, Shim},
};
use portcullis::{Actor, AuditRange, Error, Offline, Store, Timestamp};
use portcullis_testkit::{copy, number, room, surgery::age};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant, SystemTime},
};

pub(crate) const TASK: &str = "PORTCULLIS_TEST_KILL_TASK";
const CALL: &str = "PORTCULLIS_TEST_KILL_CALL";

/// An opening is rehearsed where the engine's file is larger.
const SEGMENT: u64 = 512 << 10;
/// More than is swept away at once.
const ENTRIES: u64 = 1_100;
/// Changes that are younger than the cut.
const YOUNGER: usize = 20;
/// Far more calls than anything here makes.
const MOST_CALLS: usize = 2_000;
/// Far longer than a child has our files before it runs its own program.
const IN_USE: Duration = Duration::from_mins(1);

/// A store, closed, and what was acknowledged of it.
struct Stage {
    shim: Shim,
    room: tempfile::TempDir,
    book: Mutex<Book>,
}

impl Stage {
    /// Changes keys until there is enough, and perhaps lets some days go by and changes some more.
    fn set(enough: impl Fn(u64, u64) -> bool, days: u64) -> Self {
        let stage = Self { shim: Shim::build(), room: room(), book: Mutex::default() };
        let origin = stage.at("origin");
        let store = Store::open(&origin).unwrap();
        let mut hand = Hand::new(&store, &stage.book, 0, 1);
        let length = || fs::metadata(origin.join("ledger/sled/db")).unwrap().len();
        for changes in 0.. {
            if enough(changes, length()) {
                break;
            }
            hand.change().unwrap();
        }
        drop(store);
        if days > 0 {
            age(&origin, 24 * days);
            let store = Store::open(&origin).unwrap();
            let mut hand = Hand::new(&store, &stage.book, 0, 2);
            (0..YOUNGER).for_each(|_| hand.change().unwrap());
            // Until the anchor vouches for all of it.
            drop(store);
        }
        stage
    }

    fn at(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    /// Kills one child after the other, each so many calls later, and has `check` look at what is left
    /// and whether it had said that it was done. Gives how many calls there were.
    fn each_call(&self, task: &str, stride: usize, mut check: impl FnMut(&Path, bool)) -> usize {
        for call in (0..MOST_CALLS).step_by(number("PORTCULLIS_KILL_STRIDE", stride)) {
            let home = self.at(&format!("{task} {call}"));
            copy(&self.at("origin"), &home);
            let mut command = Command::new(std::env::current_exe().unwrap());
            command
                .args(["kill::what_was_acknowledged_survives_a_kill", "--exact", "--nocapture"])
                .env(HOME, &home)
                .env(TASK, task)
                .env(CALL, call.to_string())
                .stderr(Stdio::null());
            self.shim.preload(&mut command, &self.at("faults"), &home);
            let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
            let came_through = said.lines().any(|line| line == "came through");
            check(&home, said.lines().any(|line| line == "done"));
            fs::remove_dir_all(home).unwrap();
            if came_through {
                return call;
            }
        }
        panic!("no child came through its {task} in {MOST_CALLS} calls")
    }

    /// Opens what is left: every key is as it was acknowledged, and nothing is left behind.
    fn open(&self, home: &Path) -> Store {
        let patience = Instant::now() + IN_USE;
        let store = loop {
            match Store::open(home) {
                // As below: what `faults` had locked, a child of another test holds a while longer.
                Err(Error::Locked { .. }) if Instant::now() < patience => thread::yield_now(),
                opened => break opened.unwrap(),
            }
        };
        let mut found = Findings::default();
        self.book.lock().unwrap().compare_keys(&store, &mut found);
        assert_eq!((found.lost, found.revived), (0, 0));
        assert!(!home.join("ledger/rehearsal").exists());
        store
    }

    /// What the doctor says of a directory.
    fn faults(&self, home: &Path) -> Vec<&'static str> {
        let patience = Instant::now() + IN_USE;
        loop {
            let report = Offline::new().examine(home, self.room.path()).unwrap();
            let codes: Vec<_> = report.faults().map(|fault| fault.code).collect();
            // A child that another test starts has our files until it runs its own program.
            if !codes.contains(&"in-use") {
                return codes;
            }
            let shown = home.display();
            assert!(Instant::now() < patience, "{shown} is still in use after {IN_USE:?}");
        }
    }
}

/// What the child does.
pub(crate) fn work(home: &Path, task: &str) -> ! {
    tell("");
    let faults = Faults::of_this_process().unwrap();
    let call = std::env::var(CALL).unwrap().parse().unwrap();
    if task == "open" {
        faults.kill(call);
    }
    let store = Store::open(home).unwrap();
    if task == "cut" {
        faults.kill(call);
        store.acting_as(Actor::Local(7), None).prune_audit(yesterday()).unwrap().unwrap();
    }
    tell("done");
    if faults.failed() == 0 {
        faults.clear();
        tell("came through");
    }
    std::process::exit(0)
}

impl Witness for Mutex<Book> {
    fn tries(&self, name: &str, next: Option<State>) {
        self.lock().unwrap().tries(name, next);
    }

    fn done(&self, name: &str, key: Option<(&str, &str)>) {
        self.lock().unwrap().done(name, key);
    }

    fn failed(&self, name: &str, error: &Error) {
        panic!("{name}: {error}");
    }
}

fn yesterday() -> Timestamp {
    let now = Timestamp::from(SystemTime::now()).as_millis();
    Timestamp::from_millis(now - 30 * 3_600_000)
}

#[test]
fn a_kill_within_a_cut_leaves_the_trail_whole_or_cut_and_proved() {
    let stage = Stage::set(|changes, _| changes == ENTRIES, 2);
    let whole = part(&Store::open(stage.at("origin")).unwrap());
    // The first entry tells of the catalogue.
    let through = 1 + ENTRIES;
    assert_eq!(whole.entries.len() as u64, through + YOUNGER as u64);
    let (mut found_whole, mut found_cut) = (0, 0);
    let calls = stage.each_call("cut", 1, |home, done| {
        assert_eq!(stage.faults(home), [""; 0]);
        let store = stage.open(home);
        let left = part(&store);
        match left.start.after {
            0 => found_whole += 1,
            after => {
                assert_eq!(after, through);
                found_cut += 1;
            }
        }
        assert!(!done || left.start.after == through);
        assert_is_proved(&whole, &left);
        // It can be cut now, or was.
        let again = store.acting_as(Actor::Local(7), None).prune_audit(yesterday()).unwrap();
        assert_eq!(again.is_some(), left.start.after == 0);
        assert_is_proved(&whole, &part(&store));
        drop(store);
        assert_eq!(stage.faults(home), [""; 0]);
    });
    println!(
        "kill within a cut: {calls} calls, {found_whole} times whole, {found_cut} times cut, 0 lost, 0 revived"
    );
    // Whole where the first call was the last; how many more are, the engine's threads decide among
    // themselves. The last child cuts and comes through: another died with its cut on disk.
    assert!(found_whole > 0 && found_cut > 1, "nothing was tried");
}

/// The trail as far as it is there.
fn part(store: &Store) -> AuditRange {
    store.audit_range(0, usize::MAX).unwrap()
}

/// What is left joins on to what was exported before.
fn assert_is_proved(whole: &AuditRange, left: &AuditRange) {
    let mut chain = Offline::new().audit_verifier(&whole.start).unwrap();
    for (_, frame) in &whole.entries {
        chain.verify(frame).unwrap();
    }
    chain.verify_end(&whole.end).unwrap();
    chain.continue_with(&left.start).unwrap();
    for (_, frame) in &left.entries {
        chain.verify(frame).unwrap();
    }
    chain.verify_end(&left.end).unwrap();
}

#[test]
fn a_kill_within_a_rehearsed_opening_leaves_a_store_that_opens() {
    let stage = Stage::set(|_, length| length > SEGMENT, 0);
    let entries = stage.book.lock().unwrap().news() + 1;
    let mut within = 0;
    let calls = stage.each_call("open", 7, |home, _| {
        within += usize::from(home.join("ledger/rehearsal").exists());
        let faults = stage.faults(home);
        assert!(faults.iter().all(|code| *code == "leftover"), "{faults:?}");
        let store = stage.open(home);
        assert_eq!(part(&store).entries.len(), entries);
        drop(store);
        assert_eq!(stage.faults(home), [""; 0]);
    });
    println!(
        "kill within an opening: {calls} calls, {within} times within its rehearsal, 0 lost, 0 revived"
    );
    assert!(within > 1, "nothing was tried");
}
