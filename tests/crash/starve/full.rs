//! The child on a full disk: revokes keys until the reserve is used up, opens the store on the full disk, and
//! continues after space is freed.

use portcullis::{Change, DiskSpace, Error, KeyId, Refusal, Store};
use portcullis_testkit::new_key;
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const THREADS: usize = 8;
/// How long the reserve may take to be completed. The store tries it each second.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The process that fills the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filler {
    /// The store, by its own writes.
    Store,
    /// Another process, once.
    Other,
    /// Another process that continuously takes each freed block.
    Racing,
}

impl Filler {
    pub(crate) fn to_line(self, keys: usize) -> String {
        format!("full {self:?} {keys}")
    }

    fn from_word(word: &str) -> Self {
        match word {
            "Store" => Self::Store,
            "Other" => Self::Other,
            "Racing" => Self::Racing,
            other => panic!("{other}"),
        }
    }
}

/// A key: its id and its text.
type Key = (KeyId, String);

pub(crate) fn work(home: &Path, line: &str) -> ! {
    let mut words = line.split(' ').skip(1);
    let filler = Filler::from_word(words.next().unwrap());
    let keys = words.next().unwrap().parse().unwrap();
    let (revoked, refused, opened) = run(home, filler, keys);
    println!(
        "full: {filler:?} fills the disk, {revoked} acknowledged revocations, {refused} refused since the reserve was used up, opened on the full disk: {opened}, 0 lost"
    );
    std::process::exit(0)
}

/// Returns how many revocations were acknowledged and refused on the full disk, and whether the store could
/// be opened there.
fn run(home: &Path, filler: Filler, count: usize) -> (usize, usize, bool) {
    let store = portcullis_testkit::builder().open(home).unwrap();
    let keys = issue(&store, count);
    assert_eq!(keys.len(), count, "the disk was full too early");
    let disk = store.health().disk.unwrap();
    assert!(disk.can_reserve && !disk.is_reserve_in_use, "{disk:?}");

    let ballast = home.with_file_name("ballast");
    let mut racing = fill(&store, filler, &ballast);
    // The reserve is still complete. The store writes until it is not.
    issue(&store, usize::MAX);
    assert!(store.health().disk.unwrap().is_reserve_in_use);
    assert_permitting_changes_are_refused(&store, &keys[0]);

    // The first half before, the second half after opening the store on the full disk.
    let (first_half, second_half) = keys.split_at(count / 2);
    let (mut revoked, mut refused) = revoke(&store, first_half);
    assert_state(&store, &revoked, second_half);
    for (_, key) in &refused {
        assert_eq!(store.authenticate_key(key.as_bytes()).unwrap_err(), Refusal::Inactive);
    }
    assert!(store.health().poisoned.is_none(), "{:?}", store.health());
    drop(store);
    let opened = portcullis_testkit::builder().open(home);
    let is_opened = opened.is_ok();
    let store = match opened {
        Ok(store) => store,
        // Another process may have taken the blocks that opening needs. No change is lost.
        Err(Error::Full { .. }) if filler == Filler::Racing => {
            free(racing.take(), &ballast);
            portcullis_testkit::builder().open(home).unwrap()
        }
        Err(other) => panic!("{other:?}"),
    };
    assert_state(&store, &revoked, second_half);
    let (more, others) = revoke(&store, second_half);
    let counts = (revoked.len() + more.len(), refused.len() + others.len(), is_opened);
    revoked.extend(more);
    refused.extend(others);
    if is_opened {
        free(racing, &ballast);
    }
    // Without a restart.
    wait_for(&store, |disk| !disk.is_reserve_in_use);
    let again = issue(&store, 10);
    assert_eq!(again.len(), 10);
    let (last, _) = revoke(&store, &refused);
    assert_eq!(last.len(), refused.len());
    revoked.extend(last);
    let undone = &revoked[0];
    store.update(undone.0, Change::activate()).unwrap();
    assert!(store.authenticate_key(undone.1.as_bytes()).is_ok());
    store.revoke(undone.0).unwrap();
    drop(store);
    assert_state(&portcullis_testkit::builder().open(home).unwrap(), &revoked, &again);
    counts
}

/// Issues up to `count` keys, until the disk is full.
fn issue(store: &Store, count: usize) -> Vec<Key> {
    let (next, made) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    match store.issue(new_key(store, "filler", &["api.read"])) {
                        Ok(issued) => made
                            .lock()
                            .unwrap()
                            .push((issued.record.id, issued.secret.reveal(str::to_owned))),
                        Err(Error::NoRoom { .. }) => break,
                        Err(other) => panic!("{other:?}"),
                    }
                }
            });
        }
    });
    made.into_inner().unwrap()
}

/// Revokes keys. Returns those whose revocation was acknowledged, and the others.
fn revoke(store: &Store, keys: &[Key]) -> (Vec<Key>, Vec<Key>) {
    let next = AtomicUsize::new(0);
    let (revoked, refused) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(key) = keys.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match store.revoke(key.0) {
                        Ok(_) => revoked.lock().unwrap().push(key.clone()),
                        Err(Error::ReserveUsedUp { .. }) => {
                            refused.lock().unwrap().push(key.clone());
                        }
                        Err(other) => panic!("{other:?}"),
                    }
                }
            });
        }
    });
    (revoked.into_inner().unwrap(), refused.into_inner().unwrap())
}

/// Checks that all keys in `revoked` are revoked and all keys in `working` are accepted.
fn assert_state(store: &Store, revoked: &[Key], working: &[Key]) {
    for (id, key) in revoked {
        assert!(!store.get(*id).unwrap().active, "{id} is active again");
        assert_eq!(store.authenticate_key(key.as_bytes()).unwrap_err(), Refusal::Inactive);
    }
    for (id, key) in working {
        assert!(store.authenticate_key(key.as_bytes()).is_ok(), "{id} does not work");
    }
}

fn assert_permitting_changes_are_refused(store: &Store, (id, key): &Key) {
    let (count, change) = (store.count(), entries(store));
    let renamed = Change::default().with_name("other");
    let outcomes = [
        store.issue(new_key(store, "no", &["api.read"])).map(drop),
        store.rotate(*id, Duration::ZERO).map(drop),
        store.update(*id, renamed).map(drop),
    ];
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::NoRoom { .. }), "{error:?}");
        assert!(error.to_string().contains("free)"), "{error}");
    }
    assert_eq!((store.count(), entries(store)), (count, change));
    assert!(store.authenticate_key(key.as_bytes()).is_ok());
}

/// The number of audit entries.
fn entries(store: &Store) -> usize {
    store.audit(0, usize::MAX).unwrap().len()
}

fn wait_for(store: &Store, is: impl Fn(DiskSpace) -> bool) {
    let begun = Instant::now();
    loop {
        let health = store.health();
        assert!(health.poisoned.is_none(), "{health:?}");
        if is(health.disk.unwrap()) {
            return;
        }
        assert!(begun.elapsed() < TIMEOUT, "{health:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Fills the disk.
fn fill(store: &Store, filler: Filler, ballast: &PathBuf) -> Option<Child> {
    let mut file = OpenOptions::new().append(true).create(true).open(ballast).unwrap();
    let page = [1; 4096];
    match filler {
        Filler::Other => while file.write_all(&page).is_ok() {},
        Filler::Store => {
            // Most of the space; the store fills the rest.
            while store.health().disk.unwrap().free > 3 << 20 {
                (0..64).for_each(|_| file.write_all(&page).unwrap());
                let free = rustix::fs::statvfs(ballast).unwrap();
                if free.f_bavail * free.f_frsize < 3 << 20 {
                    break;
                }
            }
            file.sync_all().unwrap();
        }
        Filler::Racing => {
            let script = "while :; do cat /dev/zero >>\"$0\"; done";
            let mut racing = Command::new("sh");
            // A process group of its own, to kill its children with it.
            racing.args(["-c", script]).arg(ballast).stderr(Stdio::null()).process_group(0);
            return Some(racing.spawn().unwrap());
        }
    }
    file.sync_all().ok();
    None
}

/// Frees the space.
fn free(racing: Option<Child>, ballast: &PathBuf) {
    if let Some(mut racing) = racing {
        kill_process_group(Pid::from_child(&racing), Signal::KILL).unwrap();
        racing.wait().unwrap();
    }
    fs::remove_file(ballast).unwrap();
}
