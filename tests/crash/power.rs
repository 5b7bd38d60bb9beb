//! Power cuts: what was acknowledged before one is there after it, and nothing comes back.
//!
//! A kill leaves all that the kernel was given; a power cut leaves of it what was synced, and of
//! the rest anything. The test runs itself as a child with a shim before the C library, which
//! writes down each creation, write, sync, rename and removal below the child's directory. The
//! child opens a store, changes keys from three threads, closes the store or just ends, and does so
//! again, and says before and after each change so. From the journal the test rebuilds, for a point
//! between any two calls, what a disk may hold if the power went there: what was synced is there;
//! what was not is dropped, kept, reordered or torn, sector by sector, and new names may be missing
//! (`power/disk.rs` has the rules). It opens that and compares:
//!
//! * each key is as it was last acknowledged, or as the change in flight would have made it;
//! * no key passes that was revoked, deleted, narrowed, shortened or rotated away;
//! * the audit trail reaches the last acknowledged change and hangs together;
//! * the store opens: an error counts as a failure, whatever it says.
//!
//! Two points in five lie within an opening or the making of a store, one just after it. Each sixth image is not
//! opened by the test but by a child under the shim, and the power goes a second time: within that
//! opening, or soon after it; of these, every other one is what a kill leaves, so that the engine
//! reads what was never synced. What an open store has shown once must then stay.
//!
//! At the end of a journal the disk with all unsynced writes kept must equal the child's real
//! directory, byte for byte: so nothing goes past the shim.
//!
//! The short form is for each change; the long one:
//!
//! ```text
//! PORTCULLIS_POWER_POINTS=2000 cargo test --release --test crash power:: -- --nocapture
//! ```

mod child;
mod disk;
mod journal;
mod known;
mod words;

use disk::{Disk, Fate};
use journal::{Step, steps};
use known::Known;
use portcullis_testkit::{Chance, grouped, issue, new_key, number, room, seeded, surgery::age};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use words::Mark;

const SHORT_FORM: usize = 150;
/// Points in one life of a directory.
const POINTS_IN_A_LIFE: usize = 100;
const SESSIONS: usize = 5;
/// Points in what a child does after a first cut.
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

/// What happens before the power goes a second time.
#[derive(Clone, Copy, Debug)]
enum First {
    Kill,
    Cut(Fate),
}

/// Where one directory lives, and its images.
struct Stage {
    room: tempfile::TempDir,
    shim: PathBuf,
    /// Whether the anchor is kept elsewhere than in the data directory.
    anchor_elsewhere: bool,
}

impl Stage {
    fn path(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    fn anchor(&self, root: &Path) -> Option<PathBuf> {
        self.anchor_elsewhere.then(|| root.join("kept.anchor"))
    }

    /// Runs one child to its end; the journal grows.
    fn run(&self, root: &Path, journal: &Path, session: usize, changes: usize) -> bool {
        self.child(root, journal, session, changes).status().unwrap().success()
    }

    fn child(&self, root: &Path, journal: &Path, session: usize, changes: usize) -> Command {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args(["power::what_was_acknowledged_survives_a_power_cut", "--exact", "--nocapture"])
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

    /// Goes through a journal, and cuts the power at each of the points.
    fn walk<'j>(
        &self,
        (mut disk, mut known): (Disk<'j>, Known),
        steps: &[Step<'j>],
        points: &[usize],
        counts: &mut Counts,
        mut cut: impl FnMut(&Self, &Disk<'j>, &Known, &mut Counts),
    ) -> (Disk<'j>, Known) {
        let mut points = points.iter().peekable();
        for number in 0..=steps.len() {
            while points.next_if_eq(&&number).is_some() {
                cut(self, &disk, &known, counts);
            }
            if let Some(step) = steps.get(number) {
                disk.take(*step);
                if let Step::Mark(mark) = step {
                    known.hear(&Mark::read(mark), counts);
                }
            }
        }
        (disk, known)
    }

    /// The power goes; the store is opened again and looked at.
    fn cut(&self, disk: &Disk<'_>, known: &Known, chance: &mut Chance, counts: &mut Counts) {
        let image = self.path("image");
        let fate = Fate::any(chance);
        disk.crash(&image, fate, chance);
        counts.points += 1;
        counts.within_opening += usize::from(known.opening);
        let before = counts.failures();
        match child::open(&image.join("keys"), self.anchor(&image).as_deref(), SESSIONS) {
            Ok(store) => {
                known.check(&store, counts);
                // It is not only there to be looked at.
                issue(&store, new_key(&store, "after the cut", &["api.read"]));
            }
            Err(error) => {
                println!("unopenable: {error:?}");
                counts.unopenable += 1;
            }
        }
        if before != counts.failures() {
            println!("… {fate:?}, after {} acknowledged changes", known.acknowledged);
        }
        fs::remove_dir_all(image).unwrap();
    }

    /// The process is killed or the power goes; then the power goes while the store is opened again
    /// or soon after. After a kill the engine reads what was never synced, and builds on it.
    fn cut_twice(
        &self,
        (disk, known): (&Disk<'_>, &Known),
        first: First,
        second: impl FnOnce(&[Step<'_>], &mut Chance) -> Vec<usize>,
        chance: &mut Chance,
        counts: &mut Counts,
    ) {
        let (root, journal) = (self.path("again"), self.path("journal of again"));
        let start = match first {
            First::Kill => {
                disk.crash(&root, Fate::Kept, chance);
                disk.after_kill(&root)
            }
            First::Cut(fate) => {
                disk.crash(&root, fate, chance);
                Disk::of(&root)
            }
        };
        let before = counts.failures();
        if self.run(&root, &journal, SESSIONS, 3) {
            let bytes = fs::read(&journal).unwrap();
            let steps = steps(&bytes);
            let points = second(&steps, chance);
            let start = (start, known.clone());
            let (disk, _) =
                self.walk(start, &steps, &points, counts, |stage, disk, known, counts| {
                    stage.cut(disk, known, chance, counts);
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

    /// With all that was written, the disk holds what the directory does.
    fn compare(&self, disk: &Disk<'_>, root: &Path) {
        let kept = self.path("kept");
        disk.crash(&kept, Fate::Kept, &mut Chance(0));
        assert!(is_same(&kept, root), "something was done past the shim");
        fs::remove_dir_all(kept).unwrap();
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    if one.is_file() {
        return other.is_file() && fs::read(one).unwrap() == fs::read(other).unwrap();
    }
    let names = |dir: &Path| -> BTreeSet<_> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    let mine = names(one);
    mine == names(other) && mine.iter().all(|name| is_same(&one.join(name), &other.join(name)))
}

/// Builds the shim with the C compiler that the crate's dependencies need anyway.
fn build_shim(place: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/power/shim.c");
    let shim = place.join("shim.so");
    let built = Command::new("cc")
        .args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-pthread", "-o"])
        .args([&shim, &source])
        .status();
    assert!(built.expect("install a C compiler as `cc`").success(), "the shim does not compile");
    shim
}

#[test]
fn what_was_acknowledged_survives_a_power_cut() {
    if let Some(home) = std::env::var_os(child::HOME) {
        child::work(Path::new(&home));
    }
    let points = number("PORTCULLIS_POWER_POINTS", SHORT_FORM);
    // Thousands of changes where there is time for them.
    let changes = if points > SHORT_FORM { 400 } else { 60 };
    let shims = tempfile::tempdir().unwrap();
    let shim = build_shim(shims.path());
    let mut counts = Counts::default();
    let mut made = 0;
    for life in 0.. {
        let left = points.saturating_sub(counts.points);
        if left == 0 {
            break;
        }
        let stage = Stage { room: room(), shim: shim.clone(), anchor_elsewhere: life % 2 == 1 };
        made += live(&stage, life, changes, left.min(POINTS_IN_A_LIFE), &mut counts);
    }
    println!(
        "power: {} points ({} within opening or making a store, {} after a second cut), {} changes made and {} found again, {} lost, {} revived, {} unopenable",
        grouped(counts.points),
        grouped(counts.within_opening),
        grouped(counts.second_cuts),
        grouped(made),
        grouped(counts.acknowledged),
        counts.lost,
        counts.revived,
        counts.unopenable
    );
    assert_eq!(counts.failures(), [0; 3]);
    assert!(counts.within_opening > points / 5 && counts.second_cuts > 0, "too few of a kind");
}

/// A first cut leaves an unfinished store and the anchor that was made for it elsewhere; then the
/// power goes at each point of the next attempt.
#[test]
fn a_store_whose_making_was_cut_short_twice_is_made() {
    let shims = tempfile::tempdir().unwrap();
    let stage = Stage { room: room(), shim: build_shim(shims.path()), anchor_elsewhere: true };
    let (root, journal) = (stage.path("root"), stage.path("journal"));
    fs::create_dir(&root).unwrap();
    let start = (Disk::of(&root), Known::default());
    assert!(stage.run(&root, &journal, 0, 0), "a child failed");
    let bytes = fs::read(&journal).unwrap();
    let steps = steps(&bytes);
    let named =
        steps.iter().position(|step| matches!(step, Step::Rename { to: "keys/ledger", .. }));
    let mut counts = Counts::default();
    stage.walk(start, &steps, &[named.unwrap()], &mut counts, |stage, disk, known, counts| {
        let (root, journal) = (stage.path("again"), stage.path("journal of again"));
        disk.crash(&root, Fate::Dropped, &mut Chance(0));
        assert!(root.join("kept.anchor").exists() && root.join("keys/ledger.new").exists());
        let start = (Disk::of(&root), known.clone());
        assert!(stage.run(&root, &journal, 1, 0), "a child failed");
        let bytes = fs::read(&journal).unwrap();
        let steps = self::steps(&bytes);
        let end = steps.iter().position(|step| matches!(step, Step::Rename { .. })).unwrap() + 4;
        let points: Vec<_> = (0..end).flat_map(|point| [point; 3]).collect();
        let mut chance = Chance(2);
        stage.walk(start, &steps, &points, counts, |stage, disk, known, counts| {
            stage.cut(disk, known, &mut chance, counts);
        });
    });
    assert_eq!(counts.failures(), [0; 3]);
}

/// The engine reads its log, and then writes a snapshot that relies on it. Where the log ends with a
/// full segment it syncs nothing in between.
#[test]
fn what_a_kill_left_is_synced_before_the_engine_builds_on_it() {
    let shims = tempfile::tempdir().unwrap();
    let stage = Stage { room: room(), shim: build_shim(shims.path()), anchor_elsewhere: false };
    let (root, journal, again) =
        (stage.path("root"), stage.path("journal"), stage.path("journal of again"));
    fs::create_dir(&root).unwrap();
    // It ends as a kill would end it.
    assert!(stage.run(&root, &journal, 0, 5), "a child failed");
    let database = fs::metadata(root.join("keys/ledger/sled/db")).unwrap().ino();
    assert!(stage.run(&root, &again, 1, 0), "a child failed");
    let bytes = fs::read(&again).unwrap();
    let steps = steps(&bytes);
    let first = |wanted: &dyn Fn(&Step<'_>) -> bool| steps.iter().position(wanted).unwrap();
    let synced = first(&|step| matches!(step, Step::Sync { inode } if *inode == database));
    let written = first(&|step| matches!(step, Step::Write { inode, .. } if *inode == database));
    let snapshot =
        first(&|step| matches!(step, Step::Create { path, .. } if path.contains("snap.")));
    assert!(synced < written && synced < snapshot, "{synced}, {written}, {snapshot}");
}

/// While it opens, the engine clears segments of its log that its new snapshot does not need. The
/// snapshot must not get lost then: without the last segment but one nothing is found again.
#[test]
fn no_cut_takes_the_snapshot_without_which_the_log_is_not_read() {
    const SEGMENT: usize = 512 << 10;
    let shims = tempfile::tempdir().unwrap();
    let shim = build_shim(shims.path());
    // The threads meet as they like, and not each life comes to clear its first segment.
    for life in 0..60 {
        let stage = Stage { room: room(), shim: shim.clone(), anchor_elsewhere: false };
        let (root, journal) = (stage.path("root"), stage.path("journal"));
        fs::create_dir(&root).unwrap();
        let start = (Disk::of(&root), Known::default());
        for (session, changes) in [(2 * life, 60), (2 * life + 1, 0), (2 * life + 2, 60)] {
            assert!(stage.run(&root, &journal, session, changes), "a child failed");
        }
        let bytes = fs::read(&journal).unwrap();
        let steps = steps(&bytes);
        let third = |step: &Step<'_>| matches!(step, Step::Write { at, .. } if *at == 2 * SEGMENT);
        // Late in the second segment.
        let kill = steps.iter().position(third).unwrap_or(steps.len()) - 25;
        let mut counts = Counts::default();
        stage.walk(start, &steps, &[kill], &mut counts, |stage, disk, known, counts| {
            let second = |steps: &[Step<'_>], _: &mut Chance| {
                let database = stage.path("again/keys/ledger/sled/db");
                let database = fs::metadata(database).unwrap().ino();
                let clears = |step: &Step<'_>| match step {
                    Step::Write { inode, at, data } => {
                        *inode == database && *at == 0 && data.len() == SEGMENT
                    }
                    _ => false,
                };
                let Some(cleared) = steps.iter().position(clears) else { return Vec::new() };
                (0..cleared).chain((cleared..cleared + 8).flat_map(|point| [point; 8])).collect()
            };
            stage.cut_twice((disk, known), First::Kill, second, &mut Chance(4), counts);
        });
        assert_eq!(counts.failures(), [0; 3]);
        if counts.points > 0 {
            println!("power: life {life} came to clear its first segment");
            return;
        }
    }
    panic!("no life came to clear its first segment");
}

/// Entries are swept away after the cut is acknowledged, and no sync waits for them.
#[test]
fn a_trail_that_is_cut_is_whole_or_cut_after_a_power_cut() {
    let shims = tempfile::tempdir().unwrap();
    let stage = Stage { room: room(), shim: build_shim(shims.path()), anchor_elsewhere: false };
    let (root, journal, again) =
        (stage.path("root"), stage.path("journal"), stage.path("journal of again"));
    fs::create_dir(&root).unwrap();
    let start = (Disk::of(&root), Known::default());
    // More entries than are swept away at once.
    for (session, changes) in [(1, 400), (3, 0)] {
        assert!(stage.run(&root, &journal, session, changes), "a child failed");
    }
    let bytes = fs::read(&journal).unwrap();
    let (mut counts, mut chance) = (Counts::default(), Chance(0));
    let (_, known) = stage.walk(start, &steps(&bytes), &[], &mut counts, |_, _, _, _| {});

    age(&root.join("keys"), 48);
    let start = (Disk::of(&root), known);
    let cut = stage.child(&root, &again, 5, 0).env(child::CUT, "").status();
    assert!(cut.unwrap().success(), "a child failed");
    let bytes = fs::read(&again).unwrap();
    let steps = steps(&bytes);
    let opened = |step: &Step<'_>| matches!(step, Step::Mark(mark) if matches!(Mark::read(mark), Mark::Opened(_)));
    let opened = steps.iter().position(opened).unwrap();
    let points: Vec<_> = (opened..=steps.len()).flat_map(|point| [point; 3]).collect();
    let mut acknowledged = 0;
    let (disk, known) =
        stage.walk(start, &steps, &points, &mut counts, |stage, disk, known, counts| {
            acknowledged += usize::from(known.cut);
            stage.cut(disk, known, &mut chance, counts);
        });
    stage.compare(&disk, &root);
    println!(
        "power within a cut: {} points, {acknowledged} after it was acknowledged",
        counts.points
    );
    assert_eq!(counts.failures(), [0; 3]);
    assert!(known.cut && acknowledged > 0 && acknowledged < counts.points, "nothing was tried");
}

/// One directory from its making on, and cuts in its life. Gives the number of changes in it.
fn live(stage: &Stage, life: usize, changes: usize, points: usize, counts: &mut Counts) -> usize {
    let (root, journal) = (stage.path("root"), stage.path("journal"));
    fs::create_dir(&root).unwrap();
    let start = (Disk::of(&root), Known::default());
    for session in 0..SESSIONS {
        // Once, nothing is changed between two openings.
        let changes = if session == 1 { 0 } else { changes };
        assert!(stage.run(&root, &journal, session, changes), "a child failed");
    }
    let bytes = fs::read(&journal).unwrap();
    let steps = steps(&bytes);
    let mut chance = seeded(life);
    let points = choose(&steps, points, &mut chance);
    let mut number = 0;
    let (disk, known) = stage.walk(start, &steps, &points, counts, |stage, disk, known, counts| {
        number += 1;
        if number % 6 == 0 {
            let first =
                if number % 12 == 0 { First::Kill } else { First::Cut(Fate::any(&mut chance)) };
            let second =
                |steps: &[Step<'_>], chance: &mut Chance| choose(steps, SECOND_CUTS, chance);
            stage.cut_twice((disk, known), first, second, &mut chance, counts);
        } else {
            stage.cut(disk, known, &mut chance, counts);
        }
    });
    stage.compare(&disk, &root);
    known.acknowledged
}

/// Numbers of steps before which the power goes, in order: two in five within an opening, one just
/// after it, when what was shown may not have been safe before.
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
