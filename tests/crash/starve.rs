//! Starvation: the disk is full, fails, cannot be written or is gone; no handles are left.
//!
//! The test runs itself as a child process with a shim before the C library, which makes calls on
//! files fail as the child says. In the child a store is opened and changed by three threads; at a
//! random call the cause comes: no room (half of a write is still done), an error of a write or of
//! a sync, a disk that cannot be written, no handles, an error of a read; for one call, for three,
//! or until it is taken away; while keys are changed, while a store is opened, with and without a
//! rehearsal, or while it is made. Under the cause, and after it is gone,
//!
//! * nothing panics across the API and no call takes 10 seconds;
//! * after a failed change no change succeeds until the store is reopened;
//! * a key does no more than it was last acknowledged to do, met with all that was tried since,
//!   even if the disk never heard of it; and no less: validation goes on from memory;
//! * the store can be opened again, with all that was acknowledged and nothing revived.
//!
//! On a real full disk the reserve is used as well: the store itself, another process, or another
//! process that takes each freed block fills a small volume. Keys are revoked until the reserve is
//! used up, the store is opened on the full disk, and it goes on without a restart when there is
//! room. No acknowledged revocation is lost, and whatever allows more is refused and changes nothing.
//!
//! Some of these causes are real as well: a small filesystem that is full, a limit on the size of
//! files, a limit on handles, a directory that is moved away or removed, a second process.
//!
//! The short form is for each change; the long one:
//!
//! ```text
//! PORTCULLIS_STARVES=1000 PORTCULLIS_FULL_DISKS=10 cargo test --release --test crash starve:: -- --nocapture
//! ```

mod child;
mod full;

use crate::{campaign::Findings, faults::Shim};
use child::{Cause, Course, When};
use full::Filler;
use portcullis_testkit::{Chance, grouped, needs, number, room, seeded};
use std::{
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

/// A child that takes longer counts as a hang; it makes several calls.
const HANG: Duration = Duration::from_mins(1);
/// Most of a child's time goes into waiting for the engine's threads to end.
const AT_ONCE: usize = 8;
const CAUSES: [Cause; 8] = [
    Cause::Full,
    Cause::FailingWrite,
    Cause::FailingSync,
    Cause::FailingSyncAlone,
    Cause::ReadOnly,
    Cause::NoHandles,
    Cause::FailingRead,
    Cause::FailingEverything,
];

/// What the children found, added up.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) found: Findings,
    /// Calls that failed, as they should.
    pub(crate) refused: usize,
    pub(crate) panics: usize,
    pub(crate) hangs: usize,
    /// Changes that succeeded after one had failed.
    pub(crate) unpoisoned: usize,
    scenes: usize,
}

impl Counts {
    pub(crate) fn to_line(self) -> String {
        let Self { found, refused, panics, hangs, unpoisoned, scenes: _ } = self;
        let Findings { acknowledged, lost, revived, unopenable } = found;
        format!(
            "counts {acknowledged} {lost} {revived} {unopenable} {refused} {panics} {hangs} {unpoisoned}"
        )
    }

    fn add(&mut self, line: &str) {
        let numbers: Vec<usize> =
            line.split(' ').skip(1).map(|word| word.parse().unwrap()).collect();
        let found = &mut self.found;
        let all = [
            &mut found.acknowledged,
            &mut found.lost,
            &mut found.revived,
            &mut found.unopenable,
            &mut self.refused,
            &mut self.panics,
            &mut self.hangs,
            &mut self.unpoisoned,
        ];
        for (count, number) in all.into_iter().zip(numbers) {
            *count += number;
        }
    }

    fn judge(self, what: &str) {
        let found = self.found;
        println!(
            "{what}: {} scenes, {} acknowledged changes, {} failed calls, {} panics, {} hangs, {} writes after a failed one, {} lost, {} revived, {} unopenable",
            grouped(self.scenes),
            grouped(found.acknowledged),
            grouped(self.refused),
            self.panics,
            self.hangs,
            self.unpoisoned,
            found.lost,
            found.revived,
            found.unopenable
        );
        let broken =
            [self.panics, self.hangs, self.unpoisoned, found.lost, found.revived, found.unopenable];
        assert_eq!(broken, [0; 6]);
        assert!(found.acknowledged > 0, "nothing was tried");
    }
}

/// Runs one child to its end and adds what it found.
fn run(mut command: Command, course: &Course, counts: &Mutex<Counts>) {
    let mut child = command
        .env(child::COURSE, course.to_line())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (out, mut errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let complaints = thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.read_to_string(&mut text);
        text
    });
    let reader = thread::spawn(move || {
        BufReader::new(out).lines().map_while(Result::ok).collect::<Vec<String>>()
    });
    let patience = Instant::now() + HANG;
    let ended = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() > patience {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let (lines, complaints) = (reader.join().unwrap(), complaints.join().unwrap());
    let mut counts = counts.lock().unwrap();
    counts.scenes += 1;
    let told = lines.iter().find(|line| line.starts_with("counts "));
    match (ended, told) {
        (Some(_), Some(line)) => counts.add(line),
        (None, _) => counts.hangs += 1,
        (Some(_), None) => counts.panics += 1,
    }
    let is_bad = |line: &&String| line.starts_with("! ");
    let silent = ended.is_none() || told.is_none();
    if silent || lines.iter().any(|line| is_bad(&line)) {
        println!("{}:", course.to_line());
        lines
            .iter()
            .filter(|line| silent || !line.is_empty())
            .for_each(|line| println!("  {line}"));
        if silent {
            println!("{complaints}");
        }
    }
}

/// The child's command; its directory is `place`.
fn this_test(place: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    with_arguments(&mut command, place);
    command
}

fn with_arguments(command: &mut Command, place: &Path) {
    command
        .args(["starve::the_promises_hold_where_the_disk_fails", "--exact", "--nocapture"])
        .env(child::HOME, place.join("keys"));
}

/// This test as a child of a shell that first does something.
fn after(first: &str, place: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{first}\nexec \"$0\" \"$@\"")]);
    command.arg(std::env::current_exe().unwrap());
    with_arguments(&mut command, place);
    command
}

#[test]
fn the_promises_hold_where_the_disk_fails() {
    if let Some(home) = std::env::var_os(child::HOME) {
        child::work(&PathBuf::from(home));
    }
    let scenes = number("PORTCULLIS_STARVES", 96);
    let shim = Shim::build();
    let counts = Mutex::new(Counts::default());
    let next = Mutex::new(0..scenes);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(scene) = next.lock().unwrap().next() else { break };
                    let dir = room();
                    let mut chance = seeded(scene);
                    let course = course(scene, &mut chance);
                    let mut command = this_test(dir.path());
                    let control = dir.path().join("faults");
                    shim.preload(&mut command, &control, &dir.path().join("keys"));
                    run(command, &course, &counts);
                }
            });
        }
    });
    let counts = counts.into_inner().unwrap();
    counts.judge("starve");
    assert!(counts.refused > 0, "no cause was felt");
}

/// Each cause, of each length, at each time, in turn; from a random call on.
fn course(scene: usize, chance: &mut Chance) -> Course {
    let cause = CAUSES[scene % CAUSES.len()];
    let whens = [When::Changing, When::Opening, When::Rehearsing, When::Making];
    let when = whens[scene / CAUSES.len() % whens.len()];
    let times = [0, 1, 3][scene / CAUSES.len() / whens.len() % 3];
    let calls = match when {
        When::Changing => 120,
        When::Opening => 40,
        When::Rehearsing => 160,
        When::Making => 90,
    };
    // Kinds of calls that are rare come to their turn as well.
    let calls = if chance.below(3) == 0 { calls / 10 } else { calls };
    Course { cause, when, after: chance.below(calls), times, seed: scene }
}

// ── real causes

fn real(what: &str, command: Command, cause: Cause) {
    let counts = played(command, cause);
    counts.judge(what);
    assert!(counts.refused > 0, "the cause was not felt");
}

fn played(command: Command, cause: Cause) -> Counts {
    let counts = Mutex::new(Counts::default());
    let course = Course { cause, when: When::Changing, after: 0, times: 0, seed: 1 };
    run(command, &course, &counts);
    counts.into_inner().unwrap()
}

#[needs(
    "the right to mount: unshare -m mount -t tmpfs none /tmp || unshare -rm mount -t tmpfs none /tmp"
)]
#[test]
fn the_promises_hold_on_a_real_full_filesystem() {
    let dir = tempfile::tempdir().unwrap();
    real("a full filesystem", on_a_volume_of(8, dir.path()), Cause::ReallyFull);
}

#[needs(
    "the right to mount: unshare -m mount -t tmpfs none /tmp || unshare -rm mount -t tmpfs none /tmp"
)]
#[test]
fn full_disk_can_still_revoke() {
    let rounds = number("PORTCULLIS_FULL_DISKS", 1);
    for round in 0..rounds {
        for filler in [Filler::Store, Filler::Other, Filler::Racing] {
            let dir = tempfile::tempdir().unwrap();
            let mut command = on_a_volume_of(32, dir.path());
            // So many that the reserve is used up on every second volume.
            let keys = if round % 2 == 0 { 1500 } else { 6000 };
            let output = command.env(child::COURSE, filler.to_line(keys)).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            let line = said.lines().find(|line| line.starts_with("full: "));
            let complaints = String::from_utf8_lossy(&output.stderr);
            let line =
                line.unwrap_or_else(|| panic!("{filler:?}, {keys} keys: {said}{complaints}"));
            println!("{line}");
        }
    }
}

/// This test as a child with a volume of so many MiB in the place of the directory.
fn on_a_volume_of(mib: usize, dir: &Path) -> Command {
    // A mount of its own for the child: it goes with it. Whoever is not root is, in a namespace.
    let mounts = |flags: &str, then: &str| {
        let mut command = Command::new("unshare");
        let mount = format!("mount -t tmpfs -o size={mib}m none '{}'", dir.display());
        command.args([flags, "sh", "-c", &format!("{mount} && {then}")]);
        command
    };
    let can = |flags: &str| {
        mounts(flags, "true").stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let flags = ["-m", "-rm"].into_iter().find(|flags| can(flags)).unwrap();
    let mut command = mounts(flags, "exec \"$0\" \"$@\"");
    command.arg(std::env::current_exe().unwrap());
    with_arguments(&mut command, dir);
    command
}

#[test]
fn the_promises_hold_where_files_may_grow_no_further() {
    let dir = tempfile::tempdir().unwrap();
    // Blocks of 512 or 1,024 bytes, as the shell counts them; the engine's file begins with 512 KiB.
    let command = after("trap '' XFSZ; ulimit -S -f 1300", dir.path());
    real("a limit on files", command, Cause::Limited);
}

#[test]
fn the_promises_hold_where_no_handles_are_left() {
    let dir = tempfile::tempdir().unwrap();
    let command = after("ulimit -n 64", dir.path());
    let counts = played(command, Cause::ReallyNoHandles);
    counts.judge("no handles");
    // Changes go on, and above all keys can be taken away: none of it takes a new handle.
    assert_eq!(counts.refused, 0);
    assert!(counts.found.acknowledged >= child::WITHOUT_HANDLES, "{}", counts.found.acknowledged);
}

#[test]
fn the_promises_hold_where_the_directory_is_moved_away() {
    let dir = tempfile::tempdir().unwrap();
    real("a moved directory", this_test(dir.path()), Cause::Moved);
}

#[test]
fn a_store_whose_directory_was_removed_stops_writing_and_goes_on_refusing() {
    let dir = tempfile::tempdir().unwrap();
    real("a removed directory", this_test(dir.path()), Cause::Removed);
}

#[test]
fn a_second_process_is_told_who_has_the_store_and_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut holder = this_test(dir.path())
        .env(child::COURSE, "hold")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "held"));
    let before = child::files(dir.path());
    for _ in 0..3 {
        let error = portcullis::Store::open(dir.path().join("keys")).unwrap_err();
        assert!(matches!(error, portcullis::Error::Locked { .. }), "{error:?}");
        assert!(error.to_string().contains(&holder.id().to_string()), "{error}");
    }
    assert_eq!(child::files(dir.path()), before);
    // The holder has noticed nothing.
    holder.stdin.as_mut().unwrap().write_all(b"go on\n").unwrap();
    assert!(lines.any(|line| line.unwrap() == "still well"));
    holder.kill().unwrap();
    holder.wait().unwrap();
    let store = portcullis::Store::open(dir.path().join("keys")).unwrap();
    assert!(store.count().active > 0);
}
