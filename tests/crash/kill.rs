//! kill −9: what was acknowledged before a kill is there after it, and nothing comes back.
//!
//! The test runs itself as a child process. In the child four threads issue, change, narrow,
//! revoke, reactivate, rotate and delete keys over the public API; each writes a line to standard
//! output before a change (`try`) and one after it was acknowledged (`done`). The child dies of
//! SIGKILL, in one of five ways:
//!
//! * at a random moment of its work;
//! * at a random call that it makes on its files, counted from the start of its opening: before
//!   the call, or halfway through a write (a shim before the C library sees to it);
//! * three times in a row at a call within the opening;
//! * in a fresh directory, where a store is only being made, and the next child opens what is left;
//! * after a random time from its start, on the disk of the temporary directory rather than in
//!   memory.
//!
//! Then the test opens a copy of what the child left and compares every key:
//!
//! * its state is the one last acknowledged, or the one that was in flight when the kill came;
//! * a key that was revoked, narrowed, rotated away or deleted does no more than it still may;
//! * what the child never tried does not exist, and the audit trail hangs together.
//!
//! A copy, since the engine's threads keep its lock for a while after a store is closed, and the
//! next child would only wait for it. The child itself opens the original, after every kill.
//!
//! What is too short for that, a cut of the trail and an opening that is rehearsed, is killed at
//! each of its calls: `kill/each_call.rs`.
//!
//! A kill says nothing about power cuts: what the kernel was given, it keeps. So most of the work
//! is done in memory, where there is one. The short form is for each change; the long one:
//!
//! ```text
//! PORTCULLIS_KILLS=10000 cargo test --release --test crash kill:: -- --nocapture
//! ```

mod each_call;

use crate::{
    campaign::{Book, Findings, Hand, State, Witness},
    faults::Shim,
};
use portcullis::{Error, Store};
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
const HANG: Duration = Duration::from_mins(1);
/// Calls on files that an opening takes about, the making of a store, and an opening with some
/// changes after it.
const OPENING: usize = 60;
const MAKING: usize = 110;
const SESSION: usize = 300;
/// The trail grows with each change: after so many kills another directory is begun.
const KILLS_OF_A_HOUSE: usize = 100;

#[derive(Default)]
struct Counts {
    kills: usize,
    within_opening: usize,
    found: Findings,
}

/// When the child dies.
enum Death {
    /// So long after its start.
    FromStart(Duration),
    /// So long after the store was open.
    FromOpening(Duration),
    /// At its n-th call on files.
    AtCall(usize),
}

/// Runs children, and has the places for what they leave.
struct Stage {
    shim: Shim,
    memory: tempfile::TempDir,
    disk: tempfile::TempDir,
    chance: Chance,
    counts: Counts,
}

/// A directory and what must be in it.
struct House {
    home: PathBuf,
    book: Book,
}

impl House {
    fn at(home: PathBuf) -> Self {
        Self { home, book: Book::default() }
    }
}

impl Stage {
    fn below(&mut self, end: usize) -> usize {
        self.chance.below(end)
    }

    fn millis(&mut self, most: usize) -> Duration {
        Duration::from_micros(self.chance.below(most * 1000) as u64)
    }

    /// Runs a child until it is dead, and writes down what it said.
    fn run(&mut self, house: &mut House, death: &Death) {
        let counts = &mut self.counts;
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["kill::what_was_acknowledged_survives_a_kill", "--exact", "--nocapture"])
            .env(HOME, &house.home)
            .env(SEED, counts.kills.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if let Death::AtCall(call) = death {
            let control = self.memory.path().join("faults");
            let faults = self.shim.preload(&mut command, &control, &house.home);
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
        match death {
            Death::FromStart(time) => thread::sleep(*time),
            Death::FromOpening(time) => {
                let answer = open.recv_timeout(HANG);
                assert!(answer.is_ok(), "the child did not open the store within {HANG:?}");
                thread::sleep(*time);
            }
            Death::AtCall(_) => wait_for_the_end(&mut child),
        }
        // It fails where the child is dead already.
        let _ = child.kill();
        child.wait().unwrap();
        counts.kills += 1;
        let lines = reader.join().unwrap();
        counts.within_opening += usize::from(!lines.iter().any(|line| line == "opened"));
        for line in lines {
            hear(&line, &mut house.book, counts);
        }
    }

    /// Opens a copy and compares.
    fn check(&mut self, house: &mut House) {
        let place = self.memory.path().join(format!("copy {}", self.counts.kills));
        if house.home.exists() {
            copy(&house.home, &place);
        }
        let opening = Instant::now();
        match Store::open(&place) {
            Ok(store) => {
                assert!(opening.elapsed() < HANG, "opening took {:?}", opening.elapsed());
                house.book.compare(&store, &mut self.counts.found);
            }
            Err(error) => {
                println!("unopenable: {error}");
                self.counts.found.unopenable += 1;
            }
        }
        let _ = fs::remove_dir_all(place);
    }
}

/// Sooner than the limit for a hang, or that is what it is.
fn wait_for_the_end(child: &mut Child) {
    let patience = Instant::now() + HANG;
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < patience, "the child hangs");
        thread::sleep(Duration::from_millis(1));
    }
}

fn hear(line: &str, book: &mut Book, counts: &mut Counts) {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    match word {
        "try" => book.tries(name, State::from_line(rest)),
        "done" => book.done(name, rest.split_once(' ')),
        "failed" => {
            println!("{line}");
            assert_eq!(name, "opening:", "{line}");
            counts.found.unopenable += 1;
        }
        _ => {}
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    if let Some(home) = std::env::var_os(HOME) {
        match std::env::var(each_call::TASK) {
            Ok(task) => each_call::work(Path::new(&home), &task),
            Err(_) => work(Path::new(&home)),
        }
    }
    let kills = number("PORTCULLIS_KILLS", 40);
    let mut stage = Stage {
        shim: Shim::build(),
        memory: room(),
        disk: tempfile::tempdir().unwrap(),
        chance: Chance(number("PORTCULLIS_SEED", 0x6b69_6c6c) as u64),
        counts: Counts::default(),
    };
    let in_memory = stage.memory.path().to_owned();
    let on_disk = stage.disk.path().to_owned();
    let mut house = House::at(in_memory.join("keys"));
    let mut slow = House::at(on_disk.join("keys"));
    for round in 0.. {
        if stage.counts.kills >= kills {
            break;
        }
        if round % KILLS_OF_A_HOUSE == KILLS_OF_A_HOUSE - 1 {
            for house in [&mut house, &mut slow] {
                fs::remove_dir_all(&house.home).unwrap();
                *house = House::at(house.home.with_file_name(format!("keys {round}")));
            }
        }
        match round % 5 {
            0 => {
                let time = stage.millis(50);
                stage.run(&mut house, &Death::FromOpening(time));
                stage.check(&mut house);
            }
            1 => {
                let call = stage.below(SESSION);
                stage.run(&mut house, &Death::AtCall(call));
                stage.check(&mut house);
            }
            2 => {
                for _ in 0..3 {
                    let call = stage.below(OPENING);
                    stage.run(&mut house, &Death::AtCall(call));
                }
                stage.check(&mut house);
            }
            3 => {
                let mut fresh = House::at(in_memory.join(format!("fresh {round}")));
                let call = stage.below(MAKING);
                stage.run(&mut fresh, &Death::AtCall(call));
                stage.check(&mut fresh);
                // Whatever was left of it, another process can open it, or make it again.
                stage.run(&mut fresh, &Death::FromOpening(Duration::ZERO));
                stage.check(&mut fresh);
                let _ = fs::remove_dir_all(&fresh.home);
            }
            _ => {
                let time = stage.millis(80);
                stage.run(&mut slow, &Death::FromStart(time));
                stage.check(&mut slow);
            }
        }
    }
    let Counts { kills, within_opening, found } = stage.counts;
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
    assert!(found.acknowledged > kills && within_opening > 0, "nothing was tried");
}

// ── the child

struct Lines;

impl Witness for Lines {
    fn tries(&self, name: &str, next: Option<State>) {
        tell(&format!("try {name} {}", State::to_line(next)));
    }

    fn done(&self, name: &str, key: Option<(&str, &str)>) {
        let key = key.map_or(String::new(), |(id, key)| format!(" {id} {key}"));
        tell(&format!("done {name}{key}"));
    }

    fn failed(&self, _: &str, error: &Error) {
        tell(&format!("failed changing: {error}"));
        std::process::exit(1);
    }
}

fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
}

/// Changes keys until it is killed.
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
            let mut hand = Hand::new(&store, &Lines, writer, seed);
            scope.spawn(move || while hand.change().is_ok() {});
        }
    });
    std::process::exit(1)
}
