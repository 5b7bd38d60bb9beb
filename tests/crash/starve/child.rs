//! The child: opens a store, starts a fault, and checks the guarantees.

use super::Counts;
use crate::{
    campaign::{Acknowledged, Findings, Observer, State, Writer},
    faults::{self, Faults},
};
use portcullis::{Error, Store};
use portcullis_testkit::{issue, new_key};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::{
    fs::{self, File},
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

pub(crate) const HOME: &str = "PORTCULLIS_TEST_STARVE_HOME";
pub(crate) const SCENARIO: &str = "PORTCULLIS_TEST_STARVE_SCENARIO";

const WRITERS: usize = 3;
/// The changes of one writer before and during the fault.
const CHANGES_BEFORE_FAULT: usize = 20;
const CHANGES_DURING_FAULT: usize = 60;
/// The number of compared changes in a run in which none is refused.
pub(crate) const CHANGES_WITHOUT_HANDLES: usize =
    WRITERS * (CHANGES_BEFORE_FAULT + CHANGES_DURING_FAULT);
/// The most changes until a real limit takes effect.
const MAX_CHANGES: usize = 20_000;
const TIMEOUT: Duration = Duration::from_secs(10);
/// Opening is rehearsed if the engine's file is larger.
const SEGMENT_BYTES: u64 = 512 << 10;

/// The fault of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Full,
    FailingWrite,
    FailingSync,
    /// Only durable syncs fail; `sync_file_range` succeeds.
    FailingSyncAlone,
    ReadOnly,
    NoHandles,
    FailingRead,
    FailingEverything,
    // Without the shim.
    ReallyFull,
    Limited,
    ReallyNoHandles,
    Moved,
    Removed,
}

/// The phase in which the fault starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Changing,
    Opening,
    /// Opening with a rehearsal, which needs a larger store.
    Rehearsing,
    Creating,
}

/// A combination of fault, phase and duration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) fault: Fault,
    pub(crate) phase: Phase,
    /// The number of calls that succeed first.
    pub(crate) after: usize,
    /// The number of calls that fail then; 0 for all.
    pub(crate) times: usize,
    pub(crate) seed: usize,
}

impl Scenario {
    pub(crate) fn to_line(self) -> String {
        let Self { fault, phase, after, times, seed } = self;
        format!("{fault:?} {phase:?} {after} {times} {seed}")
    }

    fn from_line(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse().unwrap();
        Self {
            fault: match words[0] {
                "Full" => Fault::Full,
                "FailingWrite" => Fault::FailingWrite,
                "FailingSync" => Fault::FailingSync,
                "FailingSyncAlone" => Fault::FailingSyncAlone,
                "ReadOnly" => Fault::ReadOnly,
                "NoHandles" => Fault::NoHandles,
                "FailingRead" => Fault::FailingRead,
                "FailingEverything" => Fault::FailingEverything,
                "ReallyFull" => Fault::ReallyFull,
                "Limited" => Fault::Limited,
                "ReallyNoHandles" => Fault::ReallyNoHandles,
                "Moved" => Fault::Moved,
                "Removed" => Fault::Removed,
                other => panic!("{other}"),
            },
            phase: match words[1] {
                "Changing" => Phase::Changing,
                "Opening" => Phase::Opening,
                "Rehearsing" => Phase::Rehearsing,
                "Creating" => Phase::Creating,
                other => panic!("{other}"),
            },
            after: number(2),
            times: number(3),
            seed: number(4),
        }
    }
}

/// All files below a directory and their sizes.
pub(crate) fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), path.metadata().unwrap().len()));
        }
    }
    found.sort();
    found
}

pub(crate) fn work(home: &Path) -> ! {
    println!();
    let line = std::env::var(SCENARIO).unwrap();
    if line == "hold_open" {
        hold_open(home);
    }
    if line.starts_with("full ") {
        super::full::work(home, &line);
    }
    let scenario = Scenario::from_line(&line);
    let run = Run {
        home: home.to_owned(),
        scenario,
        faults: Faults::of_this_process(),
        held: Mutex::default(),
        acknowledged: Mutex::default(),
        failed: AtomicUsize::new(0),
        counts: Mutex::default(),
    };
    run.execute();
    println!("{}", run.counts.lock().unwrap().to_line());
    std::process::exit(0)
}

struct Run {
    home: PathBuf,
    scenario: Scenario,
    faults: Option<Faults>,
    /// The file handles that are used up during the fault.
    held: Mutex<Vec<File>>,
    acknowledged: Mutex<Acknowledged>,
    /// The changes that have failed since the store was opened.
    failed: AtomicUsize,
    counts: Mutex<Counts>,
}

impl Run {
    fn execute(&self) {
        if self.scenario.phase != Phase::Creating {
            let store = self.open().unwrap().unwrap();
            self.change(&store, 0, CHANGES_BEFORE_FAULT);
            let grown =
                || fs::metadata(self.home.join("ledger/sled/db")).unwrap().len() > SEGMENT_BYTES;
            for round in 4.. {
                if self.scenario.phase != Phase::Rehearsing || grown() {
                    break;
                }
                self.change(&store, round, CHANGES_BEFORE_FAULT);
            }
            if self.scenario.phase == Phase::Changing {
                self.run_with_fault(store);
            } else {
                self.call("closing", || drop(store));
            }
        }
        if self.scenario.phase != Phase::Changing {
            self.start_fault();
            match self.open() {
                Some(Ok(store)) => self.run_with_fault(store),
                Some(Err(_)) => self.counts.lock().unwrap().refused += 1,
                None => {}
            }
        }
        // Opening during the fault may fail, but must not damage the store.
        let during_fault = if self.is_directory_gone() {
            let gone = portcullis_testkit::builder().open_existing(&self.home);
            assert!(matches!(gone, Err(Error::NotFound(_))), "{gone:?}");
            None
        } else {
            self.open()
        };
        if let Some(Ok(store)) = during_fault {
            self.compare(&store, Acknowledged::compare_keys);
            self.call("closing", || drop(store));
        }
        self.stop_fault();
        if self.scenario.fault == Fault::Removed {
            let unchecked = self.acknowledged.lock().unwrap().unchecked();
            self.counts.lock().unwrap().found.acknowledged += unchecked;
            return;
        }
        match self.open() {
            Some(Ok(store)) => {
                self.compare(&store, Acknowledged::compare);
                // The store works again.
                self.failed.store(0, Ordering::SeqCst);
                self.change(&store, 2, CHANGES_BEFORE_FAULT);
                if self.failed.load(Ordering::SeqCst) > 0 {
                    println!("! a change failed after the fault was removed");
                    self.counts.lock().unwrap().found.unopenable += 1;
                }
                self.call("closing", || drop(store));
            }
            Some(Err(error)) => {
                println!("! unopenable: {error:?}");
                self.counts.lock().unwrap().found.unopenable += 1;
            }
            None => {}
        }
    }

    /// Changes keys before and during the fault, and closes the store.
    fn run_with_fault(&self, store: Store) {
        if self.scenario.phase == Phase::Changing {
            self.start_fault();
        }
        self.change(&store, 1, if self.is_gradual() { MAX_CHANGES } else { CHANGES_DURING_FAULT });
        let failed = self.failed.load(Ordering::SeqCst) > 0;
        // Without a failure so far, the fault may not concern the changes.
        if failed {
            // A revocation fails as well, but takes effect in this process.
            self.with_writers(&store, 3, |writer| {
                for outcome in writer.revoke_all() {
                    self.after_a_failure(&outcome);
                }
            });
            if store.health().poisoned.is_none() {
                println!("! its health does not report that it stopped writing");
                self.counts.lock().unwrap().unpoisoned += 1;
            }
        }
        let acknowledged = self.acknowledged.lock().unwrap();
        acknowledged.compare_now(&store, &mut self.counts.lock().unwrap().found);
        drop(acknowledged);
        let _ = self.call("listing", || store.list(&portcullis::list::ListQuery::default()));
        let _ = self.call("reading the audit log", || store.audit(0, 10));
        self.call("closing", || drop(store));
    }

    fn is_directory_gone(&self) -> bool {
        matches!(self.scenario.fault, Fault::Moved | Fault::Removed)
    }

    fn is_gradual(&self) -> bool {
        matches!(self.scenario.fault, Fault::ReallyFull | Fault::Limited)
    }

    /// Runs several writers in parallel, each until a change fails.
    fn change(&self, store: &Store, round: usize, changes: usize) {
        self.with_writers(store, round, |writer| {
            for _ in 0..changes {
                let outcome = self.call("a change", || writer.change());
                // The disk has no space for the name of the spare file: refused before writing.
                if matches!(outcome, Some(Err(Error::NoRoom { .. }))) {
                    continue;
                }
                if !matches!(outcome, Some(Ok(()))) {
                    self.failed.fetch_add(1, Ordering::SeqCst);
                    break;
                }
            }
            // After a failure every change is refused.
            if self.failed.load(Ordering::SeqCst) > 0 {
                for _ in 0..4 {
                    if let Some(outcome) = self.call("a change", || writer.change()) {
                        self.after_a_failure(&outcome);
                    }
                }
            }
        });
    }

    fn with_writers(
        &self,
        store: &Store,
        round: usize,
        each: impl Fn(&mut Writer<'_, Self>) + Sync,
    ) {
        let seed = self.scenario.seed * 4 + round;
        thread::scope(|scope| {
            for number in 0..WRITERS {
                let each = &each;
                scope.spawn(move || each(&mut Writer::new(store, self, number, seed)));
            }
        });
    }

    fn after_a_failure(&self, outcome: &Result<(), Error>) {
        if outcome.is_ok() {
            println!("! a change succeeded after one had failed");
            self.counts.lock().unwrap().unpoisoned += 1;
        }
    }

    fn open(&self) -> Option<Result<Store, Error>> {
        // Without a reserve, a full disk stops all writes. `full` tests the reserve.
        let mut builder = portcullis_testkit::builder();
        if self.scenario.fault == Fault::ReallyFull {
            builder = builder.disk_reserve(0);
        }
        self.call("opening", || builder.open(&self.home))
    }

    fn compare(&self, store: &Store, compare: impl Fn(&mut Acknowledged, &Store, &mut Findings)) {
        let mut found = self.counts.lock().unwrap().found;
        let mut acknowledged = self.acknowledged.lock().unwrap();
        self.call("comparing", || compare(&mut acknowledged, store, &mut found));
        self.counts.lock().unwrap().found = found;
    }

    /// Makes one call of the API, which must neither panic nor hang.
    fn call<T>(&self, what: &str, call: impl FnOnce() -> T) -> Option<T> {
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(call));
        if start.elapsed() > TIMEOUT {
            println!("! {what} took {:?}", start.elapsed());
            self.counts.lock().unwrap().hangs += 1;
        }
        if outcome.is_err() {
            println!("! {what} panicked");
            self.counts.lock().unwrap().panics += 1;
        }
        outcome.ok()
    }

    // ── the fault

    fn start_fault(&self) {
        let all = faults::WRITE
            | faults::SYNC
            | faults::OPEN
            | faults::NAMES
            | faults::READ
            | faults::RANGE;
        // The error numbers of Linux.
        let (enospc, eio, erofs, emfile) = (28, 5, 30, 24);
        let (calls, error) = match self.scenario.fault {
            Fault::Full => (faults::WRITE | faults::NAMES, enospc),
            Fault::FailingWrite => (faults::WRITE, eio),
            Fault::FailingSync => (faults::SYNC | faults::RANGE, eio),
            Fault::FailingSyncAlone => (faults::SYNC, eio),
            Fault::ReadOnly => (faults::WRITE | faults::NAMES | faults::OPEN_TO_WRITE, erofs),
            Fault::NoHandles => (faults::OPEN, emfile),
            Fault::FailingRead => (faults::READ, eio),
            Fault::FailingEverything => (all, eio),
            Fault::ReallyFull => return self.fill(),
            Fault::Limited => return,
            Fault::ReallyNoHandles => return self.use_all_handles(),
            Fault::Moved => return fs::rename(&self.home, self.moved_path()).unwrap(),
            Fault::Removed => return fs::remove_dir_all(&self.home).unwrap(),
        };
        let number = |count: usize| u32::try_from(count).unwrap();
        let faults = self.faults.as_ref().unwrap();
        faults.fail(calls, error, number(self.scenario.after), number(self.scenario.times));
    }

    fn stop_fault(&self) {
        if let Some(faults) = &self.faults {
            faults.clear();
        }
        self.held.lock().unwrap().clear();
        match self.scenario.fault {
            Fault::ReallyFull => fs::remove_file(self.filler()).unwrap(),
            Fault::Moved => fs::rename(self.moved_path(), &self.home).unwrap(),
            Fault::Limited => {
                let mut limit = getrlimit(Resource::Fsize);
                limit.current = limit.maximum;
                setrlimit(Resource::Fsize, limit).unwrap();
            }
            _ => {}
        }
    }

    fn moved_path(&self) -> PathBuf {
        self.home.with_file_name("moved")
    }

    fn filler(&self) -> PathBuf {
        self.home.with_file_name("filler")
    }

    /// Fills the disk until a page does not fit.
    fn fill(&self) {
        let mut file = File::create(self.filler()).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }

    fn use_all_handles(&self) {
        let mut held = self.held.lock().unwrap();
        while let Ok(file) = File::open("/dev/null") {
            held.push(file);
        }
    }
}

impl Observer for Run {
    fn tries(&self, name: &str, next: Option<State>) {
        self.acknowledged.lock().unwrap().tries(name, next);
    }

    fn done(&self, name: &str, key: Option<(&str, &str)>) {
        self.acknowledged.lock().unwrap().done(name, key);
    }

    fn failed(&self, name: &str, error: &Error) {
        self.counts.lock().unwrap().refused += 1;
        match error {
            Error::Poisoned(_) | Error::NoRoom { .. } => {
                self.acknowledged.lock().unwrap().refused(name);
            }
            Error::NotDurable(_) => {}
            // A new writer starts from the committed state, not from its attempts.
            other => {
                println!("{name}: {other:?}");
                self.acknowledged.lock().unwrap().refused(name);
            }
        }
    }
}

/// Keeps a store open until it is killed.
fn hold_open(home: &Path) -> ! {
    let store = portcullis_testkit::builder().open(home).unwrap();
    issue(&store, new_key(&store, "held", &["api.read"]));
    println!("held");
    let mut word = String::new();
    std::io::stdin().read_line(&mut word).unwrap();
    issue(&store, new_key(&store, "still", &["api.read"]));
    println!("continued");
    loop {
        thread::sleep(TIMEOUT);
    }
}
