//! kill −9: what was acknowledged before a kill is there after it, and nothing comes back.
//!
//! The test runs itself as a child process. In the child four threads issue, change, revoke,
//! reactivate and delete keys over the public API; each writes a line to standard output before an
//! operation (`try`) and one after it was acknowledged (`done`). The parent kills the child with
//! SIGKILL at a random moment: two in five while it works, two in five while it opens, and one in
//! five in a fresh directory where a store is only being made. Then it opens a copy of what the
//! child left and compares every key:
//!
//! * its state is the one last acknowledged, or the one that was in flight when the kill came;
//! * a key whose revocation was acknowledged is refused;
//! * what the child never tried does not exist, and the audit trail hangs together.
//!
//! A copy, since the engine's threads keep its lock for a while after a store is closed, and the
//! next child would only wait for it. The child itself opens the original, after every kill.
//!
//! A kill says nothing about power cuts: what the kernel was given, it keeps. The short form is
//! for each change; the long one:
//!
//! ```text
//! PORTCULLIS_KILLS=10000 cargo test --release --test kill -- --nocapture
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by them, and tells its counts"
)]

mod support;

use portcullis::{Change, Error, KeyId, Store};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use support::{
    disk::{Chance, copy, grouped, number, records, room},
    new_key,
};

const HOME: &str = "PORTCULLIS_TEST_KILL_HOME";
const SEED: &str = "PORTCULLIS_TEST_KILL_SEED";
const WRITERS: usize = 4;
/// How many keys a writer keeps at most.
const KEYS: usize = 12;
/// An opening that takes longer counts as a hang.
const HANG: Duration = Duration::from_secs(10);

/// What is asked of a key: whether it is there, works, and how it is called upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Absent,
    There { active: bool, owner: u64 },
}

impl State {
    fn is_active(&self) -> bool {
        matches!(self, Self::There { active: true, .. })
    }

    fn to_line(&self) -> String {
        match self {
            Self::Absent => "absent".to_owned(),
            Self::There { active, owner } => format!("{active} {owner}"),
        }
    }

    fn from_words<'a>(mut words: impl Iterator<Item = &'a str>) -> Self {
        match words.next().unwrap() {
            "absent" => Self::Absent,
            active => Self::There {
                active: active.parse().unwrap(),
                owner: words.next().unwrap().parse().unwrap(),
            },
        }
    }
}

fn owner(number: u64) -> String {
    format!("owner-{number}")
}

/// What the parent knows of a key.
struct Known {
    acknowledged: State,
    in_flight: Option<State>,
    key: Option<Vec<u8>>,
}

impl Known {
    fn allows(&self, state: &State) -> bool {
        self.acknowledged == *state || self.in_flight.as_ref() == Some(state)
    }

    fn may_be_active(&self) -> bool {
        self.acknowledged.is_active() || self.in_flight.as_ref().is_some_and(State::is_active)
    }
}

#[derive(Default)]
struct Counts {
    kills: usize,
    within_opening: usize,
    acknowledged: usize,
    lost: usize,
    revived: usize,
    unopenable: usize,
}

/// A directory and what must be in it.
#[derive(Default)]
struct Campaign {
    home: PathBuf,
    keys: BTreeMap<String, Known>,
    /// The end of the trail that was checked.
    trail: u64,
    /// Changes that were acknowledged since.
    done: usize,
}

impl Campaign {
    fn at(home: PathBuf) -> Self {
        Self { home, ..Self::default() }
    }

    /// Runs a child and kills it; gives what it wrote.
    fn run(&mut self, seed: usize, patience: Patience, counts: &mut Counts) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["what_was_acknowledged_survives_a_kill", "--exact", "--nocapture"])
            .env(HOME, &self.home)
            .env(SEED, seed.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
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
        let within_opening = match patience {
            Patience::FromStart(time) => {
                thread::sleep(time);
                open.try_recv().is_err()
            }
            Patience::FromOpening(time) => {
                let answer = open.recv_timeout(HANG);
                assert!(answer.is_ok(), "the child did not open the store within 10 s");
                thread::sleep(time);
                false
            }
        };
        let ended = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        child.wait().unwrap();
        counts.kills += 1;
        counts.within_opening += usize::from(within_opening);
        let lines = reader.join().unwrap();
        let explained = lines.iter().any(|line| line.starts_with("failed"));
        assert!(!ended || explained, "the child ended by itself and did not say why");
        for line in lines {
            self.hear(&line, counts);
        }
    }

    fn hear(&mut self, line: &str, counts: &mut Counts) {
        let mut words = line.split(' ');
        match words.next() {
            Some("try") => {
                let name = words.next().unwrap();
                let fresh = Known { acknowledged: State::Absent, in_flight: None, key: None };
                self.keys.entry(name.to_owned()).or_insert(fresh).in_flight =
                    Some(State::from_words(words));
            }
            Some("done") => {
                let known = self.keys.get_mut(words.next().unwrap()).unwrap();
                known.acknowledged = known.in_flight.take().unwrap();
                if let Some(key) = words.next() {
                    known.key = Some(key.as_bytes().to_vec());
                }
                counts.acknowledged += 1;
                self.done += 1;
            }
            Some("failed") => {
                counts.unopenable += usize::from(words.next() == Some("opening"));
                println!("{line}");
                assert!(line.starts_with("failed opening"), "{line}");
            }
            _ => {}
        }
    }

    /// Opens a copy and compares.
    fn check(&mut self, place: &Path, counts: &mut Counts) {
        if self.home.exists() {
            copy(&self.home, place);
        }
        let opening = Instant::now();
        let store = match Store::open(place) {
            Ok(store) => store,
            Err(error) => {
                println!("unopenable: {error}");
                counts.unopenable += 1;
                return;
            }
        };
        assert!(opening.elapsed() < HANG, "opening took {:?}", opening.elapsed());
        let mut found: BTreeMap<String, State> = BTreeMap::new();
        for record in records(&store) {
            let number = record.owner.as_ref().unwrap().trim_start_matches("owner-");
            let state = State::There { active: record.active, owner: number.parse().unwrap() };
            assert!(self.keys.contains_key(&record.name), "{} was never tried", record.name);
            assert!(found.insert(record.name.clone(), state).is_none(), "{} twice", record.name);
        }
        for (name, known) in &mut self.keys {
            let state = found.remove(name).unwrap_or(State::Absent);
            let passes = known.key.as_ref().map(|key| store.authenticate_key(key).is_ok());
            if !known.may_be_active() && (state.is_active() || passes == Some(true)) {
                println!("{name} was revived: {state:?}, {passes:?}");
                counts.revived += 1;
            } else if !known.allows(&state) || passes.is_some_and(|p| p != state.is_active()) {
                println!(
                    "{name} was lost: {:?} or {:?}, found {state:?}, {passes:?}",
                    known.acknowledged, known.in_flight
                );
                counts.lost += 1;
            }
            (known.acknowledged, known.in_flight) = (state, None);
        }
        let news = store.audit(self.trail, usize::MAX).unwrap();
        if news.len() < self.done {
            println!("{} changes were acknowledged, the trail tells of {}", self.done, news.len());
            counts.lost += 1;
        }
        self.trail = news.last().map_or(self.trail, |entry| entry.sequence);
        self.done = 0;
        drop(store);
        if place.exists() {
            fs::remove_dir_all(place).unwrap();
        }
    }
}

#[derive(Clone, Copy)]
enum Patience {
    FromStart(Duration),
    FromOpening(Duration),
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    if let Some(home) = std::env::var_os(HOME) {
        work(Path::new(&home));
    }
    let kills = number("PORTCULLIS_KILLS", 25);
    let dir = tempfile::tempdir().unwrap();
    let copies = room();
    let mut chance = Chance(0x6b69_6c6c);
    let mut counts = Counts::default();
    let mut house = Campaign::at(dir.path().join("keys"));
    for kill in 0..kills {
        let millis = |chance: &mut Chance, most: usize| {
            Duration::from_micros(chance.below(most * 1000) as u64)
        };
        let place = copies.path().join(kill.to_string());
        match kill % 5 {
            4 => {
                let mut fresh = Campaign::at(dir.path().join(format!("fresh {kill}")));
                fresh.run(kill, Patience::FromStart(millis(&mut chance, 60)), &mut counts);
                fresh.check(&place, &mut counts);
                // Whatever was left of it, it can be opened, or made again, by another process.
                fresh.run(kill + kills, Patience::FromOpening(Duration::ZERO), &mut counts);
                fresh.check(&place, &mut counts);
                let _ = fs::remove_dir_all(&fresh.home);
            }
            1 | 3 => {
                house.run(kill, Patience::FromStart(millis(&mut chance, 80)), &mut counts);
                house.check(&place, &mut counts);
            }
            _ => {
                house.run(kill, Patience::FromOpening(millis(&mut chance, 200)), &mut counts);
                house.check(&place, &mut counts);
            }
        }
    }
    println!(
        "kill: {} kills ({} before the store was open), {} acknowledged changes, {} lost, {} revived, {} unopenable",
        grouped(counts.kills),
        grouped(counts.within_opening),
        grouped(counts.acknowledged),
        counts.lost,
        counts.revived,
        counts.unopenable
    );
    assert_eq!((counts.lost, counts.revived, counts.unopenable), (0, 0, 0));
    assert!(counts.acknowledged > counts.kills && counts.within_opening > 0, "nothing was tried");
}

fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
}

/// The child: changes keys until it is killed.
fn work(home: &Path) -> ! {
    // Ends the line that the test harness has begun.
    tell("");
    let seed = number(SEED, 0);
    let store = Store::open(home).unwrap_or_else(|error| {
        tell(&format!("failed opening: {error}"));
        std::process::exit(1)
    });
    tell("opened");
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = &store;
            scope.spawn(move || {
                if let Err(error) = change_keys(store, writer, seed) {
                    tell(&format!("failed changing: {error}"));
                    std::process::exit(1);
                }
            });
        }
    });
    std::process::exit(1)
}

fn change_keys(store: &Store, writer: usize, seed: usize) -> Result<(), Error> {
    let mine = format!("w{writer}-");
    let mut keys: Vec<(String, KeyId, State)> = records(store)
        .iter()
        .filter(|record| record.name.starts_with(&mine))
        .map(|record| {
            let number = record.owner.as_ref().unwrap().trim_start_matches("owner-");
            let state = State::There { active: record.active, owner: number.parse().unwrap() };
            (record.name.clone(), record.id, state)
        })
        .collect();
    let mut chance = Chance((seed * WRITERS + writer) as u64);
    for turn in 0.. {
        let at = chance.below(KEYS);
        let Some((name, id, current)) = keys.get_mut(at) else {
            let name = format!("{mine}{seed}-{turn}");
            let fresh = State::There { active: true, owner: turn };
            let mut new = new_key(store, &name, &["api.read"]);
            new.owner = Some(owner(turn));
            tell(&format!("try {name} {}", fresh.to_line()));
            let issued = store.issue(new)?;
            tell(&issued.secret.reveal(|key| format!("done {name} {key}")));
            keys.push((name, issued.record.id, fresh));
            continue;
        };
        let State::There { active, owner: number } = *current else { unreachable!() };
        let next = match chance.below(4) {
            0 if !active => State::Absent,
            1 => State::There { active, owner: number + 1 },
            _ => State::There { active: !active, owner: number },
        };
        tell(&format!("try {name} {}", next.to_line()));
        match next {
            State::Absent => store.delete(*id)?,
            State::There { owner: new, .. } if new != number => {
                let renamed = Change { owner: Some(Some(owner(new))), ..Change::default() };
                store.update(*id, renamed).map(|_| ())?;
            }
            State::There { active: true, .. } => {
                store.update(*id, Change::activate()).map(|_| ())?;
            }
            State::There { active: false, .. } => store.revoke(*id).map(|_| ())?,
        }
        tell(&format!("done {name}"));
        if next == State::Absent {
            keys.swap_remove(at);
        } else {
            *current = next;
        }
    }
    Ok(())
}
