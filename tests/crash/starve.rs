//! Starvation: the disk is full, fails, is read-only or is gone, or no file handles are left.
//!
//! The test runs itself as a child process. A preloaded shim makes calls on files fail as the child
//! states. In the child, three threads change the keys of an open store. The fault starts at a random
//! call: no space (half of a write still succeeds), a failed write or sync, a read-only disk, no handles,
//! or a failed read. It lasts for one call, for three, or until it is removed. It starts while keys are
//! changed, while a store is opened, with and without a rehearsal, or while a store is created. During
//! the fault and after it:
//!
//! * nothing panics across the API, and no call takes 10 seconds;
//! * after a failed change, no change succeeds until the store is reopened;
//! * a key is accepted exactly if its acknowledged state and every attempt since permit it, even if an
//!   attempt did not reach the disk: validation continues from memory;
//! * the store can be opened again, with every acknowledged change and without undone revocations.
//!
//! On a disk that is really full the reserve is used as well. A small volume is filled by the store itself, by
//! another process, or by a process that takes each freed block. Keys are revoked until the reserve is
//! used up, the store is opened on the full disk, and it continues without a restart after space is
//! freed. No acknowledged revocation is lost, and changes that permit more are refused without effect.
//!
//! Some of these faults are also produced without the shim: a small full file system, a limit on the
//! size of files, a limit on handles, a directory that is moved away or removed, a second process.
//!
//! The short form runs for each change. The long form:
//!
//! ```text
//! PORTCULLIS_STARVES=1000 PORTCULLIS_FULL_DISKS=10 cargo test --release --test crash starve:: -- --nocapture
//! ```

mod child;
mod full;

use crate::{campaign::Findings, faults::Shim};
use child::{Fault, Phase, Scenario};
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
const TIMEOUT: Duration = Duration::from_mins(1);
/// A child mostly waits for the end of the engine's threads.
const PARALLEL_CHILDREN: usize = 8;
const FAULTS: [Fault; 8] = [
    Fault::Full,
    Fault::FailingWrite,
    Fault::FailingSync,
    Fault::FailingSyncAlone,
    Fault::ReadOnly,
    Fault::NoHandles,
    Fault::FailingRead,
    Fault::FailingEverything,
];

/// The results of all children.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) found: Findings,
    /// Calls that failed as expected.
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

    fn assert_no_failures(self, what: &str) {
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

/// Runs one child and adds its results.
fn run(mut command: Command, scenario: &Scenario, counts: &Mutex<Counts>) {
    let mut child = command
        .env(child::SCENARIO, scenario.to_line())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (out, mut errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let error_output = thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.read_to_string(&mut text);
        text
    });
    let reader = thread::spawn(move || {
        BufReader::new(out).lines().map_while(Result::ok).collect::<Vec<String>>()
    });
    let deadline = Instant::now() + TIMEOUT;
    let ended = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let (lines, error_output) = (reader.join().unwrap(), error_output.join().unwrap());
    let mut counts = counts.lock().unwrap();
    counts.scenes += 1;
    let result = lines.iter().find(|line| line.starts_with("counts "));
    match (ended, result) {
        (Some(_), Some(line)) => counts.add(line),
        (None, _) => counts.hangs += 1,
        (Some(_), None) => counts.panics += 1,
    }
    let is_failure = |line: &&String| line.starts_with("! ");
    let has_no_result = ended.is_none() || result.is_none();
    if has_no_result || lines.iter().any(|line| is_failure(&line)) {
        println!("{}:", scenario.to_line());
        lines
            .iter()
            .filter(|line| has_no_result || !line.is_empty())
            .for_each(|line| println!("  {line}"));
        if has_no_result {
            println!("{error_output}");
        }
    }
}

/// The command of a child with its directory in `place`.
fn this_test(place: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    with_arguments(&mut command, place);
    command
}

fn with_arguments(command: &mut Command, place: &Path) {
    command
        .args(["starve::guarantees_hold_on_a_failing_disk", "--exact", "--nocapture"])
        .env(child::HOME, place.join("keys"));
}

/// The command of a child that is started by a shell after the command `first`.
fn after_shell_command(first: &str, place: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{first}\nexec \"$0\" \"$@\"")]);
    command.arg(std::env::current_exe().unwrap());
    with_arguments(&mut command, place);
    command
}

#[test]
fn guarantees_hold_on_a_failing_disk() {
    if let Some(home) = std::env::var_os(child::HOME) {
        child::work(&PathBuf::from(home));
    }
    let scenes = number("PORTCULLIS_STARVES", 96);
    let shim = Shim::build();
    let counts = Mutex::new(Counts::default());
    let next = Mutex::new(0..scenes);
    thread::scope(|scope| {
        for _ in 0..PARALLEL_CHILDREN {
            scope.spawn(|| {
                loop {
                    let Some(scene) = next.lock().unwrap().next() else { break };
                    let dir = room();
                    let mut chance = seeded(scene);
                    let scenario = scenario(scene, &mut chance);
                    let mut command = this_test(dir.path());
                    let control = dir.path().join("faults");
                    shim.preload(&mut command, &control, &dir.path().join("keys"));
                    run(command, &scenario, &counts);
                }
            });
        }
    });
    let counts = counts.into_inner().unwrap();
    counts.assert_no_failures("starve");
    assert!(counts.refused > 0, "no fault took effect");
}

/// Combines each fault with each duration and each phase in turn. The fault starts at a random call.
fn scenario(scene: usize, chance: &mut Chance) -> Scenario {
    let fault = FAULTS[scene % FAULTS.len()];
    let phases = [Phase::Changing, Phase::Opening, Phase::Rehearsing, Phase::Creating];
    let phase = phases[scene / FAULTS.len() % phases.len()];
    let times = [0, 1, 3][scene / FAULTS.len() / phases.len() % 3];
    let calls = match phase {
        Phase::Changing => 120,
        Phase::Opening => 40,
        Phase::Rehearsing => 160,
        Phase::Creating => 90,
    };
    // A small range for the kinds of calls that are rare.
    let calls = if chance.below(3) == 0 { calls / 10 } else { calls };
    Scenario { fault, phase, after: chance.below(calls), times, seed: scene }
}

// ── faults without the shim

fn run_real(what: &str, command: Command, fault: Fault) {
    let counts = run_once(command, fault);
    counts.assert_no_failures(what);
    assert!(counts.refused > 0, "the fault had no effect");
}

fn run_once(command: Command, fault: Fault) -> Counts {
    let counts = Mutex::new(Counts::default());
    let scenario = Scenario { fault, phase: Phase::Changing, after: 0, times: 0, seed: 1 };
    run(command, &scenario, &counts);
    counts.into_inner().unwrap()
}

#[needs(
    "the right to mount: unshare -m mount -t tmpfs none /tmp || unshare -rm mount -t tmpfs none /tmp"
)]
#[test]
fn guarantees_hold_on_a_full_file_system() {
    let dir = tempfile::tempdir().unwrap();
    run_real("a full filesystem", on_a_volume_of(8, dir.path()), Fault::ReallyFull);
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
            let output = command.env(child::SCENARIO, filler.to_line(keys)).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            let line = said.lines().find(|line| line.starts_with("full: "));
            let error_output = String::from_utf8_lossy(&output.stderr);
            let line =
                line.unwrap_or_else(|| panic!("{filler:?}, {keys} keys: {said}{error_output}"));
            println!("{line}");
        }
    }
}

/// The command of a child with a volume of `mib` MiB mounted at the directory.
fn on_a_volume_of(mib: usize, dir: &Path) -> Command {
    // In a mount namespace of the child, so that the mount ends with it. `-r` maps the user to root.
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
fn guarantees_hold_with_a_file_size_limit() {
    let dir = tempfile::tempdir().unwrap();
    // In blocks of 512 or 1,024 bytes, depending on the shell. The engine's file starts with 512 KiB.
    let command = after_shell_command("trap '' XFSZ; ulimit -S -f 1300", dir.path());
    run_real("a limit on files", command, Fault::Limited);
}

#[test]
fn changes_succeed_without_free_file_handles() {
    let dir = tempfile::tempdir().unwrap();
    let command = after_shell_command("ulimit -n 64", dir.path());
    let counts = run_once(command, Fault::ReallyNoHandles);
    counts.assert_no_failures("no handles");
    // All changes succeed, above all revocations: none of them needs a new handle.
    assert_eq!(counts.refused, 0);
    assert!(
        counts.found.acknowledged >= child::CHANGES_WITHOUT_HANDLES,
        "{}",
        counts.found.acknowledged
    );
}

#[test]
fn guarantees_hold_after_the_directory_is_moved_away() {
    let dir = tempfile::tempdir().unwrap();
    run_real("a moved directory", this_test(dir.path()), Fault::Moved);
}

#[test]
fn store_without_its_directory_stops_writing_and_still_refuses_revoked_keys() {
    let dir = tempfile::tempdir().unwrap();
    run_real("a removed directory", this_test(dir.path()), Fault::Removed);
}

#[test]
fn second_process_is_refused_with_the_name_of_the_holder_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut holder = this_test(dir.path())
        .env(child::SCENARIO, "hold_open")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "held"));
    let before = child::files(dir.path());
    for _ in 0..3 {
        let error = portcullis_testkit::builder().open(dir.path().join("keys")).unwrap_err();
        assert!(matches!(error, portcullis::Error::Locked { .. }), "{error:?}");
        assert!(error.to_string().contains(&holder.id().to_string()), "{error}");
    }
    assert_eq!(child::files(dir.path()), before);
    // The first process continues.
    holder.stdin.as_mut().unwrap().write_all(b"continue\n").unwrap();
    assert!(lines.any(|line| line.unwrap() == "continued"));
    holder.kill().unwrap();
    holder.wait().unwrap();
    let store = portcullis_testkit::builder().open(dir.path().join("keys")).unwrap();
    assert!(store.count().active > 0);
}
