//! Power cuts: every acknowledged change survives a power cut, and no revocation is undone.
//!
//! A kill keeps all data that the kernel received. A power cut keeps only synced data, and an arbitrary
//! part of the rest. The test runs itself as a child process. A preloaded shim records each creation, write,
//! sync, rename and removal below the child's directory in a journal. The child opens a store, changes
//! keys from three threads, closes the store or just exits, and repeats this. It writes a mark to the
//! journal before and after each change. From the journal the test rebuilds, for a point between any two
//! calls, what a disk may contain after a power cut at that point. Synced data is present. Other
//! data is dropped, kept, reordered or torn sector by sector, and new names may be missing
//! (`power/disk.rs` has the rules). The test opens such an image and checks:
//!
//! * each key has its acknowledged state, or that of the change in flight;
//! * no key is accepted that was revoked, deleted, narrowed, shortened or replaced;
//! * the audit log reaches the last acknowledged change and is valid;
//! * the store opens: any error is a failure.
//!
//! Two points in five are within an opening or the creation of a store, one is just after it. Each sixth image
//! is opened by a child under the shim, and the power is cut a second time, during that opening or soon
//! after it. Every other one of these images is the state after a kill, so the engine reads data that was
//! never synced. What an open store has shown once must stay.
//!
//! At the end of a journal, the simulated disk with all unsynced writes must equal the child's real
//! directory, byte for byte. So no change bypasses the shim.
//!
//! The short form runs for each change. The long form:
//!
//! ```text
//! PORTCULLIS_POWER_POINTS=2000 cargo test --release --test crash power:: -- --nocapture
//! ```

mod child;
mod disk;
mod journal;
mod expected;
mod marks;

use crate::shim;
use disk::{CrashOutcome, Disk};
use expected::Expected;
use journal::{Step, steps};
use marks::Mark;
use portcullis_testkit::{Chance, grouped, issue, new_key, number, room, seeded, surgery::age};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const SHORT_FORM: usize = 150;
/// The power cuts in the history of one directory.
const POINTS_PER_RUN: usize = 100;
const SESSIONS: usize = 5;
/// The power cuts in one child after a first crash.
const SECOND_CUTS: usize = 3;

#[derive(Default)]
struct Counts {
    points: usize,
    within_opening: usize,
    second_cuts: usize,
    acknowledged: usize,
    lost: usize,
    revived: usize,
    unopenable: usize,
}

impl Counts {
    fn failures(&self) -> [usize; 3] {
        [self.lost, self.revived, self.unopenable]
    }
}

/// The crash before a second power cut.
#[derive(Clone, Copy, Debug)]
enum FirstCrash {
    Kill,
    Cut(CrashOutcome),
}

/// The directories of one run, and the shim.
struct Harness {
    room: tempfile::TempDir,
    shim: PathBuf,
    /// Whether the anchor is outside of the data directory.
    anchor_elsewhere: bool,
}

impl Harness {
    fn path(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    fn anchor(&self, root: &Path) -> Option<PathBuf> {
        self.anchor_elsewhere.then(|| root.join("kept.anchor"))
    }

    /// Runs one child to its end. Its calls are appended to the journal.
    fn run(&self, root: &Path, journal: &Path, session: usize, changes: usize) -> bool {
        self.child(root, journal, session, changes).status().unwrap().success()
    }

    fn child(&self, root: &Path, journal: &Path, session: usize, changes: usize) -> Command {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args(["power::acknowledged_changes_survive_power_cut", "--exact", "--nocapture"])
            .env(child::HOME, root.join("keys"))
            .env(child::MARKS, journal.with_extension("marks"))
            .env(child::SESSION, session.to_string())
            .env(child::CHANGES, changes.to_string())
            .env("PORTCULLIS_POWER_ROOT", root)
            .env("PORTCULLIS_POWER_JOURNAL", journal)
            .env("LD_PRELOAD", &self.shim)
            .stdout(Stdio::null());
        if let Some(anchor) = self.anchor(root) {
            child.env(child::ANCHOR, anchor);
        }
        child
    }

    /// Replays a journal, and cuts the power at each of the points.
    fn replay<'j>(
        &self,
        (mut disk, mut expected): (Disk<'j>, Expected),
        steps: &[Step<'j>],
        points: &[usize],
        counts: &mut Counts,
        mut cut: impl FnMut(&Self, &Disk<'j>, &Expected, &mut Counts),
    ) -> (Disk<'j>, Expected) {
        let mut points = points.iter().peekable();
        for number in 0..=steps.len() {
            while points.next_if_eq(&&number).is_some() {
                cut(self, &disk, &expected, counts);
            }
            if let Some(step) = steps.get(number) {
                disk.apply(*step);
                if let Step::Mark(mark) = step {
                    expected.apply(&Mark::read(mark), counts);
                }
            }
        }
        (disk, expected)
    }

    /// Cuts the power, opens the store and checks it.
    fn cut(&self, disk: &Disk<'_>, expected: &Expected, chance: &mut Chance, counts: &mut Counts) {
        let image = self.path("image");
        let outcome = CrashOutcome::any(chance);
        disk.crash(&image, outcome, chance);
        counts.points += 1;
        counts.within_opening += usize::from(expected.opening);
        let before = counts.failures();
        match child::open(&image.join("keys"), self.anchor(&image).as_deref(), SESSIONS) {
            Ok(store) => {
                expected.check(&store, counts);
                // The store also accepts changes.
                issue(&store, new_key(&store, "after the cut", &["api.read"]));
            }
            Err(error) => {
                println!("unopenable: {error:?}");
                counts.unopenable += 1;
            }
        }
        if before != counts.failures() {
            println!("… {outcome:?}, after {} acknowledged changes", expected.acknowledged);
        }
        fs::remove_dir_all(image).unwrap();
    }

    /// Kills the process or cuts the power. Then cuts the power while the store is opened again or soon after.
    /// After a kill, the engine reads data that was never synced, and relies on it.
    fn cut_twice(
        &self,
        (disk, expected): (&Disk<'_>, &Expected),
        first: FirstCrash,
        second: impl FnOnce(&[Step<'_>], &mut Chance) -> Vec<usize>,
        chance: &mut Chance,
        counts: &mut Counts,
    ) {
        let (root, journal) = (self.path("again"), self.path("journal of again"));
        let start = match first {
            FirstCrash::Kill => {
                disk.crash(&root, CrashOutcome::Kept, chance);
                disk.after_kill(&root)
            }
            FirstCrash::Cut(outcome) => {
                disk.crash(&root, outcome, chance);
                Disk::of(&root)
            }
        };
        let before = counts.failures();
        if self.run(&root, &journal, SESSIONS, 3) {
            let bytes = fs::read(&journal).unwrap();
            let steps = steps(&bytes);
            let points = second(&steps, chance);
            let start = (start, expected.clone());
            let (disk, _) =
                self.replay(start, &steps, &points, counts, |harness, disk, expected, counts| {
                    harness.cut(disk, expected, chance, counts);
                    counts.second_cuts += 1;
                });
            self.compare(&disk, &root);
        } else {
            counts.points += 1;
            counts.unopenable += 1;
        }
        if before != counts.failures() {
            println!("… and {first:?} before that");
        }
        fs::remove_dir_all(root).unwrap();
        fs::remove_file(journal).unwrap();
    }

    /// Checks that the simulated disk with all writes equals the real directory.
    fn compare(&self, disk: &Disk<'_>, root: &Path) {
        let kept = self.path("kept");
        disk.crash(&kept, CrashOutcome::Kept, &mut Chance(0));
        assert!(is_equal(&kept, root), "a change bypassed the shim");
        fs::remove_dir_all(kept).unwrap();
    }
}

fn is_equal(one: &Path, other: &Path) -> bool {
    if one.is_file() {
        return other.is_file() && fs::read(one).unwrap() == fs::read(other).unwrap();
    }
    let names = |dir: &Path| -> BTreeSet<_> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    let mine = names(one);
    mine == names(other) && mine.iter().all(|name| is_equal(&one.join(name), &other.join(name)))
}

#[test]
fn acknowledged_changes_survive_power_cut() {
    if let Some(home) = std::env::var_os(child::HOME) {
        child::work(Path::new(&home));
    }
    let points = number("PORTCULLIS_POWER_POINTS", SHORT_FORM);
    // The long form makes thousands of changes.
    let changes = if points > SHORT_FORM { 400 } else { 60 };
    let shims = tempfile::tempdir().unwrap();
    let shim = shim::compile("journal", shims.path());
    let mut counts = Counts::default();
    let mut changes_made = 0;
    for run_number in 0.. {
        let remaining = points.saturating_sub(counts.points);
        if remaining == 0 {
            break;
        }
        let harness =
            Harness { room: room(), shim: shim.clone(), anchor_elsewhere: run_number % 2 == 1 };
        changes_made +=
            cut_one_run(&harness, run_number, changes, remaining.min(POINTS_PER_RUN), &mut counts);
    }
    println!(
        "power: {} points ({} within opening or creating a store, {} after a second cut), {} changes made and {} found again, {} lost, {} revived, {} unopenable",
        grouped(counts.points),
        grouped(counts.within_opening),
        grouped(counts.second_cuts),
        grouped(changes_made),
        grouped(counts.acknowledged),
        counts.lost,
        counts.revived,
        counts.unopenable
    );
    assert_eq!(counts.failures(), [0; 3]);
    assert!(counts.within_opening > points / 5 && counts.second_cuts > 0, "too few of a kind");
}

/// The first power cut leaves an incomplete store and its anchor outside of the directory. The second cut
/// comes at each point of the next attempt.
#[test]
fn power_cut_during_repeated_creation_leaves_a_store_that_can_be_created() {
    let shims = tempfile::tempdir().unwrap();
    let harness = Harness {
        room: room(),
        shim: shim::compile("journal", shims.path()),
        anchor_elsewhere: true,
    };
    let (root, journal) = (harness.path("root"), harness.path("journal"));
    fs::create_dir(&root).unwrap();
    let start = (Disk::of(&root), Expected::default());
    assert!(harness.run(&root, &journal, 0, 0), "a child failed");
    let bytes = fs::read(&journal).unwrap();
    let steps = steps(&bytes);
    let named =
        steps.iter().position(|step| matches!(step, Step::Rename { to: "keys/ledger", .. }));
    let mut counts = Counts::default();
    harness.replay(
        start,
        &steps,
        &[named.unwrap()],
        &mut counts,
        |harness, disk, expected, counts| {
            let (root, journal) = (harness.path("again"), harness.path("journal of again"));
            disk.crash(&root, CrashOutcome::Dropped, &mut Chance(0));
            assert!(root.join("kept.anchor").exists() && root.join("keys/ledger.new").exists());
            let start = (Disk::of(&root), expected.clone());
            assert!(harness.run(&root, &journal, 1, 0), "a child failed");
            let bytes = fs::read(&journal).unwrap();
            let steps = self::steps(&bytes);
            let end =
                steps.iter().position(|step| matches!(step, Step::Rename { .. })).unwrap() + 4;
            let points: Vec<_> = (0..end).flat_map(|point| [point; 3]).collect();
            let mut chance = Chance(2);
            harness.replay(start, &steps, &points, counts, |harness, disk, expected, counts| {
                harness.cut(disk, expected, &mut chance, counts);
            });
        },
    );
    assert_eq!(counts.failures(), [0; 3]);
}

/// The engine reads its log, and then writes a snapshot that relies on it. If the log ends with a full
/// segment, the engine syncs nothing in between.
#[test]
fn unsynced_data_of_a_killed_process_is_synced_before_the_engine_relies_on_it() {
    let shims = tempfile::tempdir().unwrap();
    let harness = Harness {
        room: room(),
        shim: shim::compile("journal", shims.path()),
        anchor_elsewhere: false,
    };
    let (root, journal, again) =
        (harness.path("root"), harness.path("journal"), harness.path("journal of again"));
    fs::create_dir(&root).unwrap();
    // The child exits without closing the store, like a kill.
    assert!(harness.run(&root, &journal, 0, 5), "a child failed");
    let database = fs::metadata(root.join("keys/ledger/sled/db")).unwrap().ino();
    assert!(harness.run(&root, &again, 1, 0), "a child failed");
    let bytes = fs::read(&again).unwrap();
    let steps = steps(&bytes);
    let first = |wanted: &dyn Fn(&Step<'_>) -> bool| steps.iter().position(wanted).unwrap();
    let synced = first(&|step| matches!(step, Step::Sync { inode } if *inode == database));
    let written = first(&|step| matches!(step, Step::Write { inode, .. } if *inode == database));
    let snapshot =
        first(&|step| matches!(step, Step::Create { path, .. } if path.contains("snap.")));
    assert!(synced < written && synced < snapshot, "{synced}, {written}, {snapshot}");
}

/// While it opens, the engine clears segments of its log that its new snapshot does not need. A power cut
/// must not lose that snapshot: without the last segment but one, the engine reads an empty log.
#[test]
fn power_cut_during_opening_keeps_the_snapshot_that_the_log_needs() {
    const SEGMENT_BYTES: usize = 512 << 10;
    let shims = tempfile::tempdir().unwrap();
    let shim = shim::compile("journal", shims.path());
    // Depending on the schedule of the threads, some runs never clear their first segment.
    for run_number in 0..60 {
        let harness = Harness { room: room(), shim: shim.clone(), anchor_elsewhere: false };
        let (root, journal) = (harness.path("root"), harness.path("journal"));
        fs::create_dir(&root).unwrap();
        let start = (Disk::of(&root), Expected::default());
        for (session, changes) in
            [(2 * run_number, 60), (2 * run_number + 1, 0), (2 * run_number + 2, 60)]
        {
            assert!(harness.run(&root, &journal, session, changes), "a child failed");
        }
        let bytes = fs::read(&journal).unwrap();
        let steps = steps(&bytes);
        let third =
            |step: &Step<'_>| matches!(step, Step::Write { at, .. } if *at == 2 * SEGMENT_BYTES);
        // Late in the second segment.
        let kill = steps.iter().position(third).unwrap_or(steps.len()) - 25;
        let mut counts = Counts::default();
        harness.replay(start, &steps, &[kill], &mut counts, |harness, disk, expected, counts| {
            let second = |steps: &[Step<'_>], _: &mut Chance| {
                let database = harness.path("again/keys/ledger/sled/db");
                let database = fs::metadata(database).unwrap().ino();
                let clears = |step: &Step<'_>| match step {
                    Step::Write { inode, at, data } => {
                        *inode == database && *at == 0 && data.len() == SEGMENT_BYTES
                    }
                    _ => false,
                };
                let Some(cleared) = steps.iter().position(clears) else { return Vec::new() };
                (0..cleared).chain((cleared..cleared + 8).flat_map(|point| [point; 8])).collect()
            };
            harness.cut_twice((disk, expected), FirstCrash::Kill, second, &mut Chance(4), counts);
        });
        assert_eq!(counts.failures(), [0; 3]);
        if counts.points > 0 {
            println!("power: run {run_number} cleared its first segment");
            return;
        }
    }
    panic!("no run cleared its first segment");
}

/// Pruned entries are removed after the prune is acknowledged, and no sync waits for that.
#[test]
fn power_cut_during_prune_leaves_the_audit_log_complete_or_pruned() {
    let shims = tempfile::tempdir().unwrap();
    let harness = Harness {
        room: room(),
        shim: shim::compile("journal", shims.path()),
        anchor_elsewhere: false,
    };
    let (root, journal, again) =
        (harness.path("root"), harness.path("journal"), harness.path("journal of again"));
    fs::create_dir(&root).unwrap();
    let start = (Disk::of(&root), Expected::default());
    // More entries than one call of the garbage collection removes.
    for (session, changes) in [(1, 400), (3, 0)] {
        assert!(harness.run(&root, &journal, session, changes), "a child failed");
    }
    let bytes = fs::read(&journal).unwrap();
    let (mut counts, mut chance) = (Counts::default(), Chance(0));
    let (_, expected) = harness.replay(start, &steps(&bytes), &[], &mut counts, |_, _, _, _| {});

    age(&root.join("keys"), 48);
    let start = (Disk::of(&root), expected);
    let prune = harness.child(&root, &again, 5, 0).env(child::PRUNE, "").status();
    assert!(prune.unwrap().success(), "a child failed");
    let bytes = fs::read(&again).unwrap();
    let steps = steps(&bytes);
    let opened = |step: &Step<'_>| matches!(step, Step::Mark(mark) if matches!(Mark::read(mark), Mark::Opened(_)));
    let opened = steps.iter().position(opened).unwrap();
    let points: Vec<_> = (opened..=steps.len()).flat_map(|point| [point; 3]).collect();
    let mut acknowledged = 0;
    let (disk, expected) =
        harness.replay(start, &steps, &points, &mut counts, |harness, disk, expected, counts| {
            acknowledged += usize::from(expected.is_pruned);
            harness.cut(disk, expected, &mut chance, counts);
        });
    harness.compare(&disk, &root);
    println!(
        "power during prune: {} points, {acknowledged} after its acknowledgement",
        counts.points
    );
    assert_eq!(counts.failures(), [0; 3]);
    assert!(
        expected.is_pruned && acknowledged > 0 && acknowledged < counts.points,
        "no power cut before or after the acknowledgement"
    );
}

/// Runs a directory from its creation on, and cuts the power at some points. Returns the number of changes.
fn cut_one_run(
    harness: &Harness,
    run_number: usize,
    changes: usize,
    points: usize,
    counts: &mut Counts,
) -> usize {
    let (root, journal) = (harness.path("root"), harness.path("journal"));
    fs::create_dir(&root).unwrap();
    let start = (Disk::of(&root), Expected::default());
    for session in 0..SESSIONS {
        // One session makes no changes between two openings.
        let changes = if session == 1 { 0 } else { changes };
        assert!(harness.run(&root, &journal, session, changes), "a child failed");
    }
    let bytes = fs::read(&journal).unwrap();
    let steps = steps(&bytes);
    let mut chance = seeded(run_number);
    let points = choose(&steps, points, &mut chance);
    let mut number = 0;
    let (disk, expected) =
        harness.replay(start, &steps, &points, counts, |harness, disk, expected, counts| {
            number += 1;
            if number % 6 == 0 {
                let first = if number % 12 == 0 {
                    FirstCrash::Kill
                } else {
                    FirstCrash::Cut(CrashOutcome::any(&mut chance))
                };
                let second =
                    |steps: &[Step<'_>], chance: &mut Chance| choose(steps, SECOND_CUTS, chance);
                harness.cut_twice((disk, expected), first, second, &mut chance, counts);
            } else {
                harness.cut(disk, expected, &mut chance, counts);
            }
        });
    harness.compare(&disk, &root);
    expected.acknowledged
}

/// Chooses the steps before which the power is cut, in order. Two in five are within an opening. One is just
/// after it: what the store shows then may not have been durable before.
fn choose(steps: &[Step<'_>], points: usize, chance: &mut Chance) -> Vec<usize> {
    let (mut within, mut opened) = (Vec::new(), Vec::new());
    let mut opening = false;
    for (number, step) in steps.iter().enumerate() {
        if opening {
            within.push(number);
        }
        if let Step::Mark(mark) = step {
            opening = match Mark::read(mark) {
                Mark::Opening => true,
                Mark::Opened(_) => {
                    opened.push(number + 1);
                    false
                }
                _ => opening,
            };
        }
    }
    let mut chosen: Vec<usize> = (0..points)
        .map(|number| match number % 5 {
            0 | 1 => within[chance.below(within.len())],
            2 => steps.len().min(opened[chance.below(opened.len())] + chance.below(6)),
            _ => chance.below(steps.len() + 1),
        })
        .collect();
    chosen.sort_unstable();
    chosen
}
