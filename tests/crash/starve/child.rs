//! The child: opens a store, lets the cause come, and looks what still holds.

use super::Counts;
use crate::{
    campaign::{Book, Findings, Hand, State, Witness},
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
pub(crate) const COURSE: &str = "PORTCULLIS_TEST_STARVE_COURSE";

const HANDS: usize = 3;
/// Changes of one hand before the cause comes, and while it is there.
const BEFORE: usize = 20;
const MEANWHILE: usize = 60;
/// The changes that are compared of a scene in which none is refused.
pub(crate) const WITHOUT_HANDLES: usize = HANDS * (BEFORE + MEANWHILE);
/// A real limit comes when it comes.
const ENOUGH: usize = 20_000;
const HANG: Duration = Duration::from_secs(10);
/// An opening is rehearsed where the engine's file is larger.
const SEGMENT: u64 = 512 << 10;

/// What is wrong with the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Full,
    FailingWrite,
    FailingSync,
    /// While all that promises nothing succeeds.
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

/// What the store is doing when the cause comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Changing,
    Opening,
    /// It is opened, and has grown enough for that to be rehearsed on a copy.
    Rehearsing,
    Making,
}

/// One scene.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    pub(crate) cause: Cause,
    pub(crate) when: When,
    /// So many calls are let through.
    pub(crate) after: usize,
    /// So many fail then; 0: all.
    pub(crate) times: usize,
    pub(crate) seed: usize,
}

impl Course {
    pub(crate) fn to_line(self) -> String {
        let Self { cause, when, after, times, seed } = self;
        format!("{cause:?} {when:?} {after} {times} {seed}")
    }

    fn from_line(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse().unwrap();
        Self {
            cause: match words[0] {
                "Full" => Cause::Full,
                "FailingWrite" => Cause::FailingWrite,
                "FailingSync" => Cause::FailingSync,
                "FailingSyncAlone" => Cause::FailingSyncAlone,
                "ReadOnly" => Cause::ReadOnly,
                "NoHandles" => Cause::NoHandles,
                "FailingRead" => Cause::FailingRead,
                "FailingEverything" => Cause::FailingEverything,
                "ReallyFull" => Cause::ReallyFull,
                "Limited" => Cause::Limited,
                "ReallyNoHandles" => Cause::ReallyNoHandles,
                "Moved" => Cause::Moved,
                "Removed" => Cause::Removed,
                other => panic!("{other}"),
            },
            when: match words[1] {
                "Changing" => When::Changing,
                "Opening" => When::Opening,
                "Rehearsing" => When::Rehearsing,
                "Making" => When::Making,
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
    let line = std::env::var(COURSE).unwrap();
    if line == "hold" {
        hold(home);
    }
    if line.starts_with("full ") {
        super::full::work(home, &line);
    }
    let course = Course::from_line(&line);
    let scene = Scene {
        home: home.to_owned(),
        course,
        faults: Faults::of_this_process(),
        held: Mutex::default(),
        book: Mutex::default(),
        failed: AtomicUsize::new(0),
        counts: Mutex::default(),
    };
    scene.play();
    println!("{}", scene.counts.lock().unwrap().to_line());
    std::process::exit(0)
}

struct Scene {
    home: PathBuf,
    course: Course,
    faults: Option<Faults>,
    /// What is held while the cause is there: handles.
    held: Mutex<Vec<File>>,
    book: Mutex<Book>,
    /// Changes that have failed since the store was opened.
    failed: AtomicUsize,
    counts: Mutex<Counts>,
}

impl Scene {
    fn play(&self) {
        if self.course.when != When::Making {
            let store = self.open().unwrap().unwrap();
            self.change(&store, 0, BEFORE);
            let grown = || fs::metadata(self.home.join("ledger/sled/db")).unwrap().len() > SEGMENT;
            for round in 4.. {
                if self.course.when != When::Rehearsing || grown() {
                    break;
                }
                self.change(&store, round, BEFORE);
            }
            if self.course.when == When::Changing {
                self.starve(store);
            } else {
                self.call("closing", || drop(store));
            }
        }
        if self.course.when != When::Changing {
            self.begin();
            match self.open() {
                Some(Ok(store)) => self.starve(store),
                Some(Err(_)) => self.counts.lock().unwrap().refused += 1,
                None => {}
            }
        }
        // Whatever the attempts to open it do: nothing of it may do harm.
        let while_it_lasts = if self.is_elsewhere() {
            let gone = Store::builder().open_existing(&self.home);
            assert!(matches!(gone, Err(Error::NotFound(_))), "{gone:?}");
            None
        } else {
            self.open()
        };
        if let Some(Ok(store)) = while_it_lasts {
            self.compare(&store, Book::compare_keys);
            self.call("closing", || drop(store));
        }
        self.end();
        if self.course.cause == Cause::Removed {
            let news = self.book.lock().unwrap().news();
            self.counts.lock().unwrap().found.acknowledged += news;
            return;
        }
        match self.open() {
            Some(Ok(store)) => {
                self.compare(&store, Book::compare);
                // It is as good as new.
                self.failed.store(0, Ordering::SeqCst);
                self.change(&store, 2, BEFORE);
                if self.failed.load(Ordering::SeqCst) > 0 {
                    println!("! a change failed after the cause was gone");
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

    /// Changes keys while the cause comes or is there, and closes the store.
    fn starve(&self, store: Store) {
        if self.course.when == When::Changing {
            self.begin();
        }
        self.change(&store, 1, if self.is_patient() { ENOUGH } else { MEANWHILE });
        let failed = self.failed.load(Ordering::SeqCst) > 0;
        // Where nothing has failed yet, perhaps none of it touches what was tried.
        if failed {
            // Taking keys away is refused as well, and still takes them away in this process.
            self.hands(&store, 3, |hand| {
                for outcome in hand.revoke_all() {
                    self.after_a_failure(&outcome);
                }
            });
            if store.health().poisoned.is_none() {
                println!("! it does not say that it stopped writing");
                self.counts.lock().unwrap().unpoisoned += 1;
            }
        }
        let book = self.book.lock().unwrap();
        book.compare_now(&store, &mut self.counts.lock().unwrap().found);
        drop(book);
        let _ = self.call("listing", || store.list(&portcullis::ListQuery::default()));
        let _ = self.call("reading the trail", || store.audit(0, 10));
        self.call("closing", || drop(store));
    }

    fn is_elsewhere(&self) -> bool {
        matches!(self.course.cause, Cause::Moved | Cause::Removed)
    }

    fn is_patient(&self) -> bool {
        matches!(self.course.cause, Cause::ReallyFull | Cause::Limited)
    }

    /// Several hands at once, each until a change fails.
    fn change(&self, store: &Store, round: usize, changes: usize) {
        self.hands(store, round, |hand| {
            for _ in 0..changes {
                let outcome = self.call("a change", || hand.change());
                // The disk has no room for the reserve's name: nothing was written, nothing failed.
                if matches!(outcome, Some(Err(Error::NoRoom { .. }))) {
                    continue;
                }
                if !matches!(outcome, Some(Ok(()))) {
                    self.failed.fetch_add(1, Ordering::SeqCst);
                    break;
                }
            }
            // What was refused once is refused again.
            if self.failed.load(Ordering::SeqCst) > 0 {
                for _ in 0..4 {
                    if let Some(outcome) = self.call("a change", || hand.change()) {
                        self.after_a_failure(&outcome);
                    }
                }
            }
        });
    }

    fn hands(&self, store: &Store, round: usize, each: impl Fn(&mut Hand<'_, Self>) + Sync) {
        let seed = self.course.seed * 4 + round;
        thread::scope(|scope| {
            for number in 0..HANDS {
                let each = &each;
                scope.spawn(move || each(&mut Hand::new(store, self, number, seed)));
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
        // Without a reserve, a full disk ends writing. What the reserve does is a scene of its own.
        let mut builder = Store::builder();
        if self.course.cause == Cause::ReallyFull {
            builder = builder.disk_reserve(0);
        }
        self.call("opening", || builder.open(&self.home))
    }

    fn compare(&self, store: &Store, compare: impl Fn(&mut Book, &Store, &mut Findings)) {
        let mut found = self.counts.lock().unwrap().found;
        let mut book = self.book.lock().unwrap();
        self.call("comparing", || compare(&mut book, store, &mut found));
        self.counts.lock().unwrap().found = found;
    }

    /// One call of the API: it must neither panic nor hang.
    fn call<T>(&self, what: &str, call: impl FnOnce() -> T) -> Option<T> {
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(call));
        if start.elapsed() > HANG {
            println!("! {what} took {:?}", start.elapsed());
            self.counts.lock().unwrap().hangs += 1;
        }
        if outcome.is_err() {
            println!("! {what} panicked");
            self.counts.lock().unwrap().panics += 1;
        }
        outcome.ok()
    }

    // ── the cause

    fn begin(&self) {
        let all = faults::WRITE
            | faults::SYNC
            | faults::OPEN
            | faults::NAMES
            | faults::READ
            | faults::RANGE;
        // The numbers of Linux.
        let (enospc, eio, erofs, emfile) = (28, 5, 30, 24);
        let (calls, error) = match self.course.cause {
            Cause::Full => (faults::WRITE | faults::NAMES, enospc),
            Cause::FailingWrite => (faults::WRITE, eio),
            Cause::FailingSync => (faults::SYNC | faults::RANGE, eio),
            Cause::FailingSyncAlone => (faults::SYNC, eio),
            Cause::ReadOnly => (faults::WRITE | faults::NAMES | faults::OPEN_TO_WRITE, erofs),
            Cause::NoHandles => (faults::OPEN, emfile),
            Cause::FailingRead => (faults::READ, eio),
            Cause::FailingEverything => (all, eio),
            Cause::ReallyFull => return self.fill(),
            Cause::Limited => return,
            Cause::ReallyNoHandles => return self.take_all_handles(),
            Cause::Moved => return fs::rename(&self.home, self.away()).unwrap(),
            Cause::Removed => return fs::remove_dir_all(&self.home).unwrap(),
        };
        let number = |count: usize| u32::try_from(count).unwrap();
        let faults = self.faults.as_ref().unwrap();
        faults.fail(calls, error, number(self.course.after), number(self.course.times));
    }

    fn end(&self) {
        if let Some(faults) = &self.faults {
            faults.clear();
        }
        self.held.lock().unwrap().clear();
        match self.course.cause {
            Cause::ReallyFull => fs::remove_file(self.filler()).unwrap(),
            Cause::Moved => fs::rename(self.away(), &self.home).unwrap(),
            Cause::Limited => {
                let mut limit = getrlimit(Resource::Fsize);
                limit.current = limit.maximum;
                setrlimit(Resource::Fsize, limit).unwrap();
            }
            _ => {}
        }
    }

    fn away(&self) -> PathBuf {
        self.home.with_file_name("moved away")
    }

    fn filler(&self) -> PathBuf {
        self.home.with_file_name("filler")
    }

    /// Until only a little is left.
    fn fill(&self) {
        let mut file = File::create(self.filler()).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }

    fn take_all_handles(&self) {
        let mut held = self.held.lock().unwrap();
        while let Ok(file) = File::open("/dev/null") {
            held.push(file);
        }
    }
}

impl Witness for Scene {
    fn tries(&self, name: &str, next: Option<State>) {
        self.book.lock().unwrap().tries(name, next);
    }

    fn done(&self, name: &str, key: Option<(&str, &str)>) {
        self.book.lock().unwrap().done(name, key);
    }

    fn failed(&self, name: &str, error: &Error) {
        self.counts.lock().unwrap().refused += 1;
        match error {
            Error::Poisoned(_) | Error::NoRoom { .. } => self.book.lock().unwrap().refused(name),
            Error::NotDurable(_) => {}
            // A hand that begins anew sees what is committed, not what it has tried.
            other => {
                println!("{name}: {other:?}");
                self.book.lock().unwrap().refused(name);
            }
        }
    }
}

/// Has a store open and waits.
fn hold(home: &Path) -> ! {
    let store = Store::open(home).unwrap();
    issue(&store, new_key(&store, "held", &["api.read"]));
    println!("held");
    let mut word = String::new();
    std::io::stdin().read_line(&mut word).unwrap();
    issue(&store, new_key(&store, "still", &["api.read"]));
    println!("still well");
    loop {
        thread::sleep(HANG);
    }
}
