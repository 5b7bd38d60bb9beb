//! kill −9: every acknowledged change survives a kill, and no revocation is undone.
//!
//! The test runs itself as a child process. In the child, four threads issue, change, narrow, revoke,
//! reactivate, rotate and delete keys through the public API. Each writes a line to standard output
//! before a change (`try`) and after its acknowledgement (`done`). The child dies of SIGKILL, in one of
//! five ways:
//!
//! * at a random time while it changes keys;
//! * at a random call on its files, counted from the start of opening: before the call, or halfway
//!   through a write (a preloaded shim does this);
//! * three times in a row at a call during opening;
//! * in a fresh directory, during the creation of a store; the next child opens the result;
//! * after a random time from its start, on the disk of the temporary directory instead of in memory.
//!
//! Then the test opens a copy of the directory and compares every key:
//!
//! * its state is the acknowledged one, or that of the change in flight at the kill;
//! * a key that was revoked, narrowed, replaced or deleted is accepted for no more than that state permits;
//! * keys that the child never issued do not exist, and the audit log is valid.
//!
//! The test opens a copy since the engine's threads hold its lock for a while after a store is closed,
//! and the next child would have to wait. The child itself opens the original after every kill.
//!
//! Pruning and a rehearsed opening are too short for random kills: `kill/each_call.rs` kills a child at
//! each of their calls.
//!
//! A kill does not simulate a power cut: the kernel keeps all writes. So most of the work is done in a
//! file system in memory if there is one. The short form runs for each change. The long form:
//!
//! ```text
//! PORTCULLIS_KILLS=10000 cargo test --release --test crash kill:: -- --nocapture
//! ```

mod each_call;

use crate::{
    campaign::{Acknowledged, Findings, Observer, State, Writer},
    faults::Shim,
};
use portcullis::Error;
use portcullis_testkit::{Chance, copy, grouped, number, room};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

const HOME: &str = "PORTCULLIS_TEST_KILL_HOME";
const SEED: &str = "PORTCULLIS_TEST_KILL_SEED";
const WRITERS: usize = 4;
/// A child or an opening that takes longer counts as a hang.
const TIMEOUT: Duration = Duration::from_mins(1);
/// The approximate number of calls on files during opening, during the creation of a store, and during
/// opening with some changes.
const OPENING_CALLS: usize = 60;
const CREATION_CALLS: usize = 110;
const SESSION_CALLS: usize = 300;
/// The number of kills per directory. The audit log of a directory grows with each change.
const KILLS_PER_STORE: usize = 100;

#[derive(Default)]
struct Counts {
    kills: usize,
    within_opening: usize,
    found: Findings,
}

/// The time of the kill.
enum KillTime {
    /// After this time from the start of the child.
    FromStart(Duration),
    /// After this time from the end of opening.
    FromOpening(Duration),
    /// At the n-th call on files.
    AtCall(usize),
}

/// Runs the children, and owns their directories.
struct Harness {
    shim: Shim,
    memory: tempfile::TempDir,
    disk: tempfile::TempDir,
    chance: Chance,
    counts: Counts,
}

/// A data directory and its acknowledged changes.
struct TestStore {
    home: PathBuf,
    acknowledged: Acknowledged,
}

impl TestStore {
    fn at(home: PathBuf) -> Self {
        Self { home, acknowledged: Acknowledged::default() }
    }
}

impl Harness {
    fn below(&mut self, end: usize) -> usize {
        self.chance.below(end)
    }

    fn millis(&mut self, most: usize) -> Duration {
        Duration::from_micros(self.chance.below(most * 1000) as u64)
    }

    /// Runs a child until it is killed, and records its output.
    fn run(&mut self, store_dir: &mut TestStore, kill_time: &KillTime) {
        let counts = &mut self.counts;
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["kill::acknowledged_changes_survive_kill", "--exact", "--nocapture"])
            .env(HOME, &store_dir.home)
            .env(SEED, counts.kills.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if let KillTime::AtCall(call) = kill_time {
            let control = self.memory.path().join("faults");
            let faults = self.shim.preload(&mut command, &control, &store_dir.home);
            faults.kill(u32::try_from(*call).unwrap());
        }
        let mut child = command.spawn().unwrap();
        let (opened, open) = mpsc::channel();
        let out = child.stdout.take().unwrap();
        let reader = thread::spawn(move || {
            let mut lines = Vec::new();
            for line in BufReader::new(out).lines() {
                let line = line.unwrap();
                if line == "opened" || line.starts_with("failed") {
                    let _ = opened.send(());
                }
                lines.push(line);
            }
            lines
        });
        match kill_time {
            KillTime::FromStart(time) => thread::sleep(*time),
            KillTime::FromOpening(time) => {
                let answer = open.recv_timeout(TIMEOUT);
                assert!(answer.is_ok(), "the child did not open the store within {TIMEOUT:?}");
                thread::sleep(*time);
            }
            KillTime::AtCall(_) => wait_for_exit(&mut child),
        }
        // Fails if the child is dead already.
        let _ = child.kill();
        child.wait().unwrap();
        counts.kills += 1;
        let lines = reader.join().unwrap();
        counts.within_opening += usize::from(!lines.iter().any(|line| line == "opened"));
        for line in lines {
            apply_line(&line, &mut store_dir.acknowledged, counts);
        }
    }

    /// Opens a copy of the directory and compares its keys.
    fn check(&mut self, store_dir: &mut TestStore) {
        let place = self.memory.path().join(format!("copy {}", self.counts.kills));
        if store_dir.home.exists() {
            copy(&store_dir.home, &place);
        }
        let opening = Instant::now();
        match portcullis_testkit::builder().open(&place) {
            Ok(store) => {
                assert!(opening.elapsed() < TIMEOUT, "opening took {:?}", opening.elapsed());
                store_dir.acknowledged.compare(&store, &mut self.counts.found);
            }
            Err(error) => {
                println!("unopenable: {error}");
                self.counts.found.unopenable += 1;
            }
        }
        let _ = fs::remove_dir_all(place);
    }
}

/// Waits for the end of a child, at most [`TIMEOUT`].
fn wait_for_exit(child: &mut Child) {
    let deadline = Instant::now() + TIMEOUT;
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the child hangs");
        thread::sleep(Duration::from_millis(1));
    }
}

fn apply_line(line: &str, acknowledged: &mut Acknowledged, counts: &mut Counts) {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    match word {
        "try" => acknowledged.tries(name, State::from_line(rest)),
        "done" => acknowledged.done(name, rest.split_once(' ')),
        "failed" => {
            println!("{line}");
            assert_eq!(name, "opening:", "{line}");
            counts.found.unopenable += 1;
        }
        _ => {}
    }
}

#[test]
fn acknowledged_changes_survive_kill() {
    if let Some(home) = std::env::var_os(HOME) {
        match std::env::var(each_call::TASK) {
            Ok(task) => each_call::work(Path::new(&home), &task),
            Err(_) => work(Path::new(&home)),
        }
    }
    let kills = number("PORTCULLIS_KILLS", 40);
    let mut harness = Harness {
        shim: Shim::build(),
        memory: room(),
        disk: tempfile::tempdir().unwrap(),
        chance: Chance(number("PORTCULLIS_SEED", 0x6b69_6c6c) as u64),
        counts: Counts::default(),
    };
    let in_memory = harness.memory.path().to_owned();
    let on_disk = harness.disk.path().to_owned();
    let mut store_dir = TestStore::at(in_memory.join("keys"));
    let mut on_disk_store = TestStore::at(on_disk.join("keys"));
    for round in 0.. {
        if harness.counts.kills >= kills {
            break;
        }
        if round % KILLS_PER_STORE == KILLS_PER_STORE - 1 {
            for store_dir in [&mut store_dir, &mut on_disk_store] {
                fs::remove_dir_all(&store_dir.home).unwrap();
                *store_dir = TestStore::at(store_dir.home.with_file_name(format!("keys {round}")));
            }
        }
        match round % 5 {
            0 => {
                let time = harness.millis(50);
                harness.run(&mut store_dir, &KillTime::FromOpening(time));
                harness.check(&mut store_dir);
            }
            1 => {
                let call = harness.below(SESSION_CALLS);
                harness.run(&mut store_dir, &KillTime::AtCall(call));
                harness.check(&mut store_dir);
            }
            2 => {
                for _ in 0..3 {
                    let call = harness.below(OPENING_CALLS);
                    harness.run(&mut store_dir, &KillTime::AtCall(call));
                }
                harness.check(&mut store_dir);
            }
            3 => {
                let mut fresh = TestStore::at(in_memory.join(format!("fresh {round}")));
                let call = harness.below(CREATION_CALLS);
                harness.run(&mut fresh, &KillTime::AtCall(call));
                harness.check(&mut fresh);
                // Another process can open the directory, or create the store again.
                harness.run(&mut fresh, &KillTime::FromOpening(Duration::ZERO));
                harness.check(&mut fresh);
                let _ = fs::remove_dir_all(&fresh.home);
            }
            _ => {
                let time = harness.millis(80);
                harness.run(&mut on_disk_store, &KillTime::FromStart(time));
                harness.check(&mut on_disk_store);
            }
        }
    }
    let Counts { kills, within_opening, found } = harness.counts;
    println!(
        "kill: {} kills ({} before the store was open), {} acknowledged changes, {} lost, {} revived, {} unopenable",
        grouped(kills),
        grouped(within_opening),
        grouped(found.acknowledged),
        found.lost,
        found.revived,
        found.unopenable
    );
    assert_eq!((found.lost, found.revived, found.unopenable), (0, 0, 0));
    assert!(
        found.acknowledged > kills && within_opening > 0,
        "no change was acknowledged or no kill hit opening"
    );
}

// ── the child

/// Prints each change for the parent process.
struct PrintLines;

impl Observer for PrintLines {
    fn tries(&self, name: &str, next: Option<State>) {
        print_line(&format!("try {name} {}", State::to_line(next)));
    }

    fn done(&self, name: &str, key: Option<(&str, &str)>) {
        let key = key.map_or(String::new(), |(id, key)| format!(" {id} {key}"));
        print_line(&format!("done {name}{key}"));
    }

    fn failed(&self, _: &str, error: &Error) {
        print_line(&format!("failed changing: {error}"));
        std::process::exit(1);
    }
}

fn print_line(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
}

/// Changes keys until it is killed.
fn work(home: &Path) -> ! {
    // Ends the incomplete line of the test runner.
    print_line("");
    let seed = number(SEED, 0);
    let store = portcullis_testkit::builder().open(home).unwrap_or_else(|error| {
        print_line(&format!("failed opening: {error}"));
        std::process::exit(1)
    });
    print_line("opened");
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let mut writer_keys = Writer::new(&store, &PrintLines, writer, seed);
            scope.spawn(move || while writer_keys.change().is_ok() {});
        }
    });
    std::process::exit(1)
}
