//! Kills a child at each call on files during pruning and during a rehearsed opening: random kills would
//! miss most of these calls. One child dies at the first call, the next one at a later call, and so on
//! until a child completes. The short form skips some calls; the long form takes each:
//!
//! ```text
//! PORTCULLIS_KILL_STRIDE=1 cargo test --release --test crash kill::each_call -- --nocapture
//! ```

use super::{HOME, print_line};
use crate::{
    campaign::{Acknowledged, Findings, Observer, State, Writer},
    faults::{Faults, Shim},
};
use portcullis::{Actor, Error, Offline, Store, Timestamp, audit::AuditRange};
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

/// Opening is rehearsed if the engine's file is larger.
const SEGMENT_BYTES: u64 = 512 << 10;
/// More entries than one call of the garbage collection removes.
const OLD_ENTRIES: u64 = 1_100;
/// Entries that are too new to be pruned.
const NEW_ENTRIES: usize = 20;
/// Far more calls than these operations make.
const MAX_CALLS: usize = 2_000;
/// Far longer than a child process keeps inherited files before it executes its own program.
const IN_USE_TIMEOUT: Duration = Duration::from_mins(1);

/// A closed store and its acknowledged changes.
struct Harness {
    shim: Shim,
    room: tempfile::TempDir,
    acknowledged: Mutex<Acknowledged>,
}

impl Harness {
    /// Changes keys until `enough` returns true for the number of changes and the length of the file. Then
    /// ages the store by `days` and makes some more changes.
    fn prepare(enough: impl Fn(u64, u64) -> bool, days: u64) -> Self {
        let harness = Self { shim: Shim::build(), room: room(), acknowledged: Mutex::default() };
        let origin = harness.at("origin");
        let store = portcullis_testkit::builder().open(&origin).unwrap();
        let mut writer = Writer::new(&store, &harness.acknowledged, 0, 1);
        let length = || fs::metadata(origin.join("ledger/sled/db")).unwrap().len();
        for changes in 0.. {
            if enough(changes, length()) {
                break;
            }
            writer.change().unwrap();
        }
        drop(store);
        if days > 0 {
            age(&origin, 24 * days);
            let store = portcullis_testkit::builder().open(&origin).unwrap();
            let mut writer = Writer::new(&store, &harness.acknowledged, 0, 2);
            (0..NEW_ENTRIES).for_each(|_| writer.change().unwrap());
            // Closing the store syncs the anchor.
            drop(store);
        }
        harness
    }

    fn at(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    /// Kills one child after the other, each `stride` calls later. Calls `check` with the directory and
    /// whether the child had completed the operation. Returns the number of calls of the operation.
    fn each_call(&self, task: &str, stride: usize, mut check: impl FnMut(&Path, bool)) -> usize {
        for call in (0..MAX_CALLS).step_by(number("PORTCULLIS_KILL_STRIDE", stride)) {
            let home = self.at(&format!("{task} {call}"));
            copy(&self.at("origin"), &home);
            let mut command = Command::new(std::env::current_exe().unwrap());
            command
                .args(["kill::acknowledged_changes_survive_kill", "--exact", "--nocapture"])
                .env(HOME, &home)
                .env(TASK, task)
                .env(CALL, call.to_string())
                .stderr(Stdio::null());
            self.shim.preload(&mut command, &self.at("faults"), &home);
            let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
            let completed = output.lines().any(|line| line == "completed");
            check(&home, output.lines().any(|line| line == "done"));
            fs::remove_dir_all(home).unwrap();
            if completed {
                return call;
            }
        }
        panic!("no child completed {task} within {MAX_CALLS} calls")
    }

    /// Opens the directory and checks that every key has its acknowledged state and that no temporary files
    /// remain.
    fn open(&self, home: &Path) -> Store {
        let deadline = Instant::now() + IN_USE_TIMEOUT;
        let store = loop {
            match portcullis_testkit::builder().open(home) {
                // A child of another test may have inherited the lock, as in `faults`.
                Err(Error::Locked { .. }) if Instant::now() < deadline => thread::yield_now(),
                opened => break opened.unwrap(),
            }
        };
        let mut found = Findings::default();
        self.acknowledged.lock().unwrap().compare_keys(&store, &mut found);
        assert_eq!((found.lost, found.revived), (0, 0));
        assert!(!home.join("ledger/rehearsal").exists());
        store
    }

    /// Returns the codes of the faults that the doctor finds.
    fn faults(&self, home: &Path) -> Vec<&'static str> {
        let deadline = Instant::now() + IN_USE_TIMEOUT;
        loop {
            let report = Offline::new().examine(home, self.room.path()).unwrap();
            let codes: Vec<_> = report.faults().map(|fault| fault.code).collect();
            // A child process of another test keeps inherited files until it executes its own program.
            if !codes.contains(&"in-use") {
                return codes;
            }
            let shown = home.display();
            assert!(Instant::now() < deadline, "{shown} is still in use after {IN_USE_TIMEOUT:?}");
        }
    }
}

/// Runs the operation in the child.
pub(crate) fn work(home: &Path, task: &str) -> ! {
    print_line("");
    let faults = Faults::of_this_process().unwrap();
    let call = std::env::var(CALL).unwrap().parse().unwrap();
    if task == "open" {
        faults.kill(call);
    }
    let store = portcullis_testkit::builder().open(home).unwrap();
    if task == "prune" {
        faults.kill(call);
        store.acting_as(Actor::Local(7)).prune_audit(yesterday()).unwrap().unwrap();
    }
    print_line("done");
    if faults.failed() == 0 {
        faults.clear();
        print_line("completed");
    }
    std::process::exit(0)
}

impl Observer for Mutex<Acknowledged> {
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
fn kill_during_prune_leaves_the_audit_log_complete_or_pruned_and_valid() {
    let harness = Harness::prepare(|changes, _| changes == OLD_ENTRIES, 2);
    let complete = audit_range(&portcullis_testkit::builder().open(harness.at("origin")).unwrap());
    // The first entry records the catalogue.
    let through = 1 + OLD_ENTRIES;
    assert_eq!(complete.entries.len() as u64, through + NEW_ENTRIES as u64);
    let (mut found_complete, mut found_pruned) = (0, 0);
    let calls = harness.each_call("prune", 1, |home, done| {
        assert_eq!(harness.faults(home), [""; 0]);
        let store = harness.open(home);
        let remaining = audit_range(&store);
        match remaining.start.after {
            0 => found_complete += 1,
            after => {
                assert_eq!(after, through);
                found_pruned += 1;
            }
        }
        assert!(!done || remaining.start.after == through);
        assert_is_continued(&complete, &remaining);
        // The audit log can be pruned now, or was pruned before.
        let again = store.acting_as(Actor::Local(7)).prune_audit(yesterday()).unwrap();
        assert_eq!(again.is_some(), remaining.start.after == 0);
        assert_is_continued(&complete, &audit_range(&store));
        drop(store);
        assert_eq!(harness.faults(home), [""; 0]);
    });
    println!(
        "kill during prune: {calls} calls, {found_complete} times complete, {found_pruned} times pruned, 0 lost, 0 revived"
    );
    // The log is complete if the kill came at the first call. How often it is complete after later calls
    // depends on the engine's threads. The last child completes the prune, so at least one more child must
    // have died after its prune was on disk.
    assert!(found_complete > 0 && found_pruned > 1, "too few kills hit the operation");
}

/// Reads the whole audit log.
fn audit_range(store: &Store) -> AuditRange {
    store.audit_range(0, usize::MAX).unwrap()
}

/// Verifies that the remaining audit log continues the one that was exported before.
fn assert_is_continued(complete: &AuditRange, remaining: &AuditRange) {
    let mut chain = Offline::new().audit_verifier(&complete.start).unwrap();
    for (_, frame) in &complete.entries {
        chain.verify(frame).unwrap();
    }
    chain.verify_end(&complete.end).unwrap();
    chain.continue_with(&remaining.start).unwrap();
    for (_, frame) in &remaining.entries {
        chain.verify(frame).unwrap();
    }
    chain.verify_end(&remaining.end).unwrap();
}

#[test]
fn kill_during_rehearsed_opening_leaves_a_store_that_opens() {
    let harness = Harness::prepare(|_, length| length > SEGMENT_BYTES, 0);
    let entries = harness.acknowledged.lock().unwrap().unchecked() + 1;
    let mut within = 0;
    let calls = harness.each_call("open", 7, |home, _| {
        within += usize::from(home.join("ledger/rehearsal").exists());
        let faults = harness.faults(home);
        assert!(faults.iter().all(|code| *code == "leftover"), "{faults:?}");
        let store = harness.open(home);
        assert_eq!(audit_range(&store).entries.len(), entries);
        drop(store);
        assert_eq!(harness.faults(home), [""; 0]);
    });
    println!(
        "kill during opening: {calls} calls, {within} times during its rehearsal, 0 lost, 0 revived"
    );
    assert!(within > 1, "too few kills hit the operation");
}
