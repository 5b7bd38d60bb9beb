//! The child: opens a store, changes keys, and writes marks.

use super::marks::{Facts, Intent, Mark};
use portcullis::{Actor, Change, Error, Expiry, Issued, Metadata, Record, Store, Timestamp};
use portcullis_testkit::{Chance, new_key, number, records, scopes};
use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

pub(crate) const HOME: &str = "PORTCULLIS_TEST_POWER_HOME";
pub(crate) const ANCHOR: &str = "PORTCULLIS_TEST_POWER_ANCHOR";
pub(crate) const MARKS: &str = "PORTCULLIS_POWER_MARKS";
/// The number of earlier sessions in the directory.
pub(crate) const SESSION: &str = "PORTCULLIS_TEST_POWER_SESSION";
pub(crate) const CHANGES: &str = "PORTCULLIS_TEST_POWER_CHANGES";

/// If set, the child only prunes the audit log.
pub(crate) const PRUNE: &str = "PORTCULLIS_TEST_POWER_PRUNE";

const THREADS: usize = 3;
/// The most keys of a thread.
const KEYS: usize = 14;
const GRACE: Duration = Duration::from_hours(24);

struct Marks(File);

impl Marks {
    /// Writes a mark with one call of `write`.
    fn write(&self, mark: &Mark) {
        (&self.0).write_all(&serde_json::to_vec(mark).unwrap()).unwrap();
    }
}

/// Opens the store, in the child and in the test.
pub(crate) fn open(home: &Path, anchor: Option<&Path>, own_scopes: usize) -> Result<Store, Error> {
    // The catalogue grows with each session.
    let own = (0..own_scopes).map(|n| (format!("shop.scope{n}").parse().unwrap(), String::new()));
    let builder = portcullis_testkit::builder().scopes(own);
    let builder = if let Some(anchor) = anchor { builder.anchor(anchor) } else { builder };
    builder.open(home)
}

pub(crate) fn work(home: &Path) -> ! {
    let path = std::env::var_os(MARKS).unwrap();
    let marks = Marks(OpenOptions::new().create(true).append(true).open(path).unwrap());
    let (session, changes) = (number(SESSION, 0), number(CHANGES, 0));
    let anchor = std::env::var_os(ANCHOR);
    marks.write(&Mark::Opening);
    let store = open(home, anchor.as_ref().map(Path::new), session + 1).unwrap();
    let found = records(&store);
    marks.write(&Mark::Opened(found.iter().map(|record| Facts::of(record)).collect()));
    if std::env::var_os(PRUNE).is_some() {
        let pruned = store.acting_as(Actor::Local(7)).prune_audit(yesterday()).unwrap();
        marks.write(&Mark::Pruned { sequence: pruned.unwrap().sequence });
        drop(store);
        std::process::exit(0)
    }
    thread::scope(|scope| {
        for number in 0..THREADS {
            let mine = format!("t{number}-");
            let keys: Vec<_> =
                found.iter().filter(|r| r.name.starts_with(&mine)).map(Arc::clone).collect();
            let chance = Chance((session * THREADS + number) as u64);
            let mut writer = Writer { store: &store, marks: &marks, number, keys, chance };
            scope.spawn(move || {
                (0..changes).for_each(|turn| writer.change(session, turn));
                // Every other session exits like a kill, with changes in flight.
                if changes > 0 && session.is_multiple_of(2) {
                    std::process::exit(0);
                }
            });
        }
    });
    drop(store);
    std::process::exit(0)
}

fn yesterday() -> Timestamp {
    (SystemTime::now() - Duration::from_hours(30)).into()
}

/// The keys of one thread.
struct Writer<'s> {
    store: &'s Store,
    marks: &'s Marks,
    number: usize,
    keys: Vec<Arc<Record>>,
    chance: Chance,
}

impl Writer<'_> {
    fn change(&mut self, session: usize, turn: usize) {
        let at = self.chance.below(KEYS);
        let Some(record) = self.keys.get(at).map(Arc::clone) else {
            return self.issue(format!("t{}-{session}-{turn}", self.number), session);
        };
        let replaced = record.replaced_by.is_some();
        match self.chance.below(10) {
            0 if record.active && !replaced => self.rotate(at, &record),
            _ if !record.active && (replaced || self.chance.below(5) == 0) => {
                self.delete(at, &record);
            }
            0..4 => {
                let flipped = Change::default().with_active(!record.active);
                self.update(at, &record, flipped);
            }
            4 => {
                let names: &[&str] = match self.chance.below(3) {
                    0 => &["api.read"],
                    1 => &["api.read", "api.write"],
                    _ => &["api.write"],
                };
                let grant = scopes(self.store, names);
                self.update(at, &record, Change::default().with_grant(grant));
            }
            5 => {
                let end = Timestamp::from_secs(2_000_000_000 + self.chance.below(1 << 20) as u64);
                let expiry =
                    if self.chance.below(3) == 0 { Expiry::Never } else { Expiry::At(end) };
                self.update(at, &record, Change::default().with_expiry(expiry));
            }
            _ => {
                let metadata = self.random_metadata();
                self.update(at, &record, Change::default().with_metadata(metadata));
            }
        }
    }

    /// Nothing, a little, or as much as a record may hold.
    fn random_metadata(&mut self) -> Metadata {
        let (entries, length) = [(0, 0), (1, 8), (3, 60), (5, 240)][self.chance.below(4)];
        let mut note = |n| {
            let word = format!("{:016x}", self.chance.word());
            (format!("note-{n}"), word.chars().cycle().take(length).collect())
        };
        (0..entries).map(&mut note).collect()
    }

    fn issue(&mut self, name: String, session: usize) {
        let newest = format!("shop.scope{session}");
        let mut new = new_key(self.store, &name, &["api.read", "api.write", &newest]);
        new.owner = (self.chance.below(2) == 0).then(|| format!("owner of {name}"));
        new.metadata = self.random_metadata();
        new.active = self.chance.below(8) > 0;
        self.try_to(Intent::Issue { name });
        let Issued { record, secret } = self.store.issue(new).unwrap();
        self.done(&[&record], Some(secret.reveal(ToOwned::to_owned)));
        self.keys.push(record);
    }

    fn update(&mut self, at: usize, record: &Record, change: Change) {
        let mut after = record.clone();
        if let Some(grant) = change.grant {
            after.grant = grant;
        }
        if let Some(expiry) = change.expiry {
            after.expiry = expiry;
        }
        if let Some(metadata) = &change.metadata {
            after.metadata.clone_from(metadata);
        }
        after.active = change.active.unwrap_or(after.active);
        self.try_to(Intent::Change(Facts::of(&after)));
        let after = if change == Change::deactivate() {
            self.store.revoke(record.id).unwrap()
        } else {
            self.store.update(record.id, change).unwrap()
        };
        self.done(&[&after], None);
        self.keys[at] = after;
    }

    fn rotate(&mut self, at: usize, record: &Record) {
        let grace = if self.chance.below(2) == 0 { GRACE } else { Duration::ZERO };
        let mut old = record.clone();
        old.active = !grace.is_zero();
        self.try_to(Intent::Rotate(Facts::of(&old)));
        let Issued { record: new, secret } = self.store.rotate(record.id, grace).unwrap();
        let old = self.store.get(record.id).unwrap();
        self.done(&[&old, &new], Some(secret.reveal(ToOwned::to_owned)));
        self.keys[at] = old;
        self.keys.push(new);
    }

    fn delete(&mut self, at: usize, record: &Record) {
        self.try_to(Intent::Delete { id: record.id.to_string() });
        self.store.delete(record.id).unwrap();
        self.done(&[], None);
        self.keys.swap_remove(at);
    }

    fn try_to(&self, intent: Intent) {
        self.marks.write(&Mark::Try { thread: self.number, intent });
    }

    fn done(&self, records: &[&Record], key: Option<String>) {
        let records = records.iter().map(|record| Facts::of(record)).collect();
        self.marks.write(&Mark::Done { thread: self.number, records, key });
    }
}
