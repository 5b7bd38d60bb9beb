//! Simulates a disk that may lose its power: its durable content, and the states that a crash may leave.
//!
//! The simulated disk guarantees only what POSIX does:
//!
//! - The content of a file is durable after a sync of the file, its name after a sync of the directory.
//! - After the last sync of a file, each sector of 512 bytes may have any of its states since, independently
//!   of the other sectors and of the file's length. So writes are dropped, kept, torn and reordered.
//! - After the last sync of a directory, each change of its names may be present or not, independently of
//!   earlier changes.

use super::journal::Step;
use portcullis_testkit::Chance;
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
};

const SECTOR: usize = 512;

/// The unsynced changes that a crash keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CrashOutcome {
    /// None.
    Dropped,
    /// All, as after a kill.
    Kept,
    /// For each file and directory, a random number of the first changes; the last of them is torn.
    Ordered,
    /// Random ones, sector by sector and name by name.
    Scattered,
}

impl CrashOutcome {
    pub(crate) fn any(chance: &mut Chance) -> Self {
        match chance.below(8) {
            0 => Self::Dropped,
            1 => Self::Kept,
            2 | 3 => Self::Ordered,
            _ => Self::Scattered,
        }
    }
}

#[derive(Clone)]
enum Node<'j> {
    File { synced: Vec<u8>, since: Vec<Edit<'j>> },
    Dir { synced: Names, now: Names, since: Vec<NameChange<'j>> },
}

#[derive(Clone, Copy)]
enum Edit<'j> {
    Write { at: usize, data: &'j [u8] },
    Resize(usize),
}

type Names = BTreeMap<String, usize>;

/// One atomic change of a directory.
#[derive(Clone, Copy)]
struct NameChange<'j> {
    removes: Option<&'j str>,
    adds: Option<(&'j str, usize)>,
}

impl NameChange<'_> {
    fn apply(&self, names: &mut Names) {
        if let Some(name) = self.removes {
            names.remove(name);
        }
        if let Some((name, node)) = self.adds {
            names.insert(name.to_owned(), node);
        }
    }
}

pub(crate) struct Disk<'j> {
    /// The first node is the root.
    nodes: Vec<Node<'j>>,
    by_inode: HashMap<u64, usize>,
}

impl<'j> Disk<'j> {
    /// Creates a disk with the content of `root`, all of it durable.
    pub(crate) fn of(root: &Path) -> Self {
        let mut disk = Self { nodes: Vec::new(), by_inode: HashMap::new() };
        disk.load(root);
        disk
    }

    fn load(&mut self, path: &Path) -> usize {
        let number = self.nodes.len();
        let found = fs::metadata(path).unwrap();
        self.by_inode.insert(found.ino(), number);
        if found.is_dir() {
            self.nodes.push(empty_dir());
            let mut names = Names::new();
            for entry in fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                names.insert(name, self.load(&entry.path()));
            }
            self.nodes[number] = Node::Dir { synced: names.clone(), now: names, since: Vec::new() };
        } else {
            let synced = fs::read(path).unwrap();
            self.nodes.push(Node::File { synced, since: Vec::new() });
        }
        number
    }

    pub(crate) fn apply(&mut self, step: Step<'j>) {
        match step {
            Step::Create { path, inode } => {
                let file = Node::File { synced: Vec::new(), since: Vec::new() };
                self.add(path, inode, file);
            }
            Step::MakeDir { path, inode } => self.add(path, inode, empty_dir()),
            Step::Write { inode, at, data } => self.edit(inode, Edit::Write { at, data }),
            Step::Resize { inode, len } => self.edit(inode, Edit::Resize(len)),
            Step::Sync { inode } => match &mut self.nodes[self.by_inode[&inode]] {
                Node::File { synced, since } => {
                    for edit in std::mem::take(since) {
                        let len = edit.length_after(synced.len());
                        edit.apply(synced, |_| true);
                        synced.resize(len, 0);
                    }
                }
                Node::Dir { synced, now, since } => {
                    since.clear();
                    synced.clone_from(now);
                }
            },
            Step::Rename { from, to } => {
                let ((dir, old), (same, new)) = (self.parent(from), self.parent(to));
                assert_eq!(dir, same, "{from} moves to another directory, {to}");
                let node = self.names(dir)[old];
                self.name(dir, NameChange { removes: Some(old), adds: Some((new, node)) });
            }
            Step::Link { from, to } => {
                let ((old_dir, old), (dir, new)) = (self.parent(from), self.parent(to));
                let node = self.names(old_dir)[old];
                self.name(dir, NameChange { removes: None, adds: Some((new, node)) });
            }
            Step::Remove { path } => {
                let (dir, name) = self.parent(path);
                self.name(dir, NameChange { removes: Some(name), adds: None });
            }
            Step::Nothing | Step::Mark(_) => {}
        }
    }

    fn add(&mut self, path: &'j str, inode: u64, node: Node<'j>) {
        let number = self.nodes.len();
        self.nodes.push(node);
        self.by_inode.insert(inode, number);
        let (dir, name) = self.parent(path);
        self.name(dir, NameChange { removes: None, adds: Some((name, number)) });
    }

    fn edit(&mut self, inode: u64, edit: Edit<'j>) {
        match &mut self.nodes[self.by_inode[&inode]] {
            Node::File { since, .. } => since.push(edit),
            Node::Dir { .. } => panic!("a directory was written to"),
        }
    }

    fn name(&mut self, dir: usize, change: NameChange<'j>) {
        let Node::Dir { now, since, .. } = &mut self.nodes[dir] else { panic!("not a directory") };
        change.apply(now);
        since.push(change);
    }

    fn names(&self, dir: usize) -> &Names {
        let Node::Dir { now, .. } = &self.nodes[dir] else { panic!("not a directory") };
        now
    }

    /// The directory that holds a path, and the name in it.
    fn parent<'p>(&self, path: &'p str) -> (usize, &'p str) {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parts = above.split('/').filter(|part| !part.is_empty());
        (parts.fold(0, |dir, part| self.names(dir)[part]), name)
    }

    /// Returns the same disk after a kill: unsynced changes stay unsynced. `root` has the content with all
    /// changes.
    pub(crate) fn after_kill(&self, root: &Path) -> Self {
        let mut disk = Self { nodes: self.nodes.clone(), by_inode: HashMap::new() };
        disk.find_inodes(0, root);
        disk
    }

    fn find_inodes(&mut self, node: usize, path: &Path) {
        self.by_inode.insert(fs::metadata(path).unwrap().ino(), node);
        if let Node::Dir { now, .. } = &self.nodes[node] {
            for (name, node) in now.clone() {
                self.find_inodes(node, &path.join(name));
            }
        }
    }

    /// Writes the content after a crash at this point to `place`.
    pub(crate) fn crash(&self, place: &Path, outcome: CrashOutcome, chance: &mut Chance) {
        self.write_image(0, place, outcome, chance);
    }

    fn write_image(&self, node: usize, place: &Path, outcome: CrashOutcome, chance: &mut Chance) {
        match &self.nodes[node] {
            Node::File { synced, since } => {
                fs::write(place, crashed(synced, since, outcome, chance)).unwrap();
            }
            Node::Dir { synced, since, .. } => {
                let mut names = synced.clone();
                let first = chance.below(since.len() + 1);
                for (at, change) in since.iter().enumerate() {
                    let is_kept = match outcome {
                        CrashOutcome::Dropped => false,
                        CrashOutcome::Kept => true,
                        CrashOutcome::Ordered => at < first,
                        CrashOutcome::Scattered => chance.below(2) == 0,
                    };
                    if is_kept {
                        change.apply(&mut names);
                    }
                }
                fs::create_dir(place).unwrap();
                for (name, node) in names {
                    self.write_image(node, &place.join(name), outcome, chance);
                }
            }
        }
    }
}

fn empty_dir<'j>() -> Node<'j> {
    Node::Dir { synced: Names::new(), now: Names::new(), since: Vec::new() }
}

/// The content of a file after a crash.
fn crashed(
    synced: &[u8],
    since: &[Edit<'_>],
    outcome: CrashOutcome,
    chance: &mut Chance,
) -> Vec<u8> {
    let mut bytes = synced.to_vec();
    if since.is_empty() {
        return bytes;
    }
    let (salt, first) = (chance.word(), chance.below(since.len() + 1));
    // The number of edits that a sector has: deterministic for each sector.
    let edits_kept = |sector: usize| {
        let mut own = Chance(salt ^ (sector as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        match outcome {
            CrashOutcome::Dropped => 0,
            CrashOutcome::Kept => since.len(),
            CrashOutcome::Ordered => first + own.below(2),
            CrashOutcome::Scattered => match own.below(3) {
                0 => 0,
                1 => since.len(),
                _ => own.below(since.len() + 1),
            },
        }
    };
    // The length is independent of the sectors.
    let length_edits = edits_kept(usize::MAX);
    let mut lengths = vec![synced.len()];
    for (at, edit) in since.iter().enumerate() {
        let length = edit.length_after(lengths[at]);
        lengths.push(length);
        edit.apply(&mut bytes, |sector| at < edits_kept(sector));
    }
    bytes.resize(lengths[length_edits.min(since.len())], 0);
    bytes
}

impl Edit<'_> {
    fn length_after(&self, before: usize) -> usize {
        match self {
            Self::Write { at, data } => before.max(at + data.len()),
            Self::Resize(len) => *len,
        }
    }

    /// Applies the edit to the sectors that have it.
    fn apply(&self, bytes: &mut Vec<u8>, has_edit: impl Fn(usize) -> bool) {
        match *self {
            Self::Write { at, data } => {
                let end = at + data.len();
                bytes.resize(bytes.len().max(end), 0);
                let mut from = at;
                while from < end {
                    let sector = from / SECTOR;
                    let to = end.min((sector + 1) * SECTOR);
                    if has_edit(sector) {
                        bytes[from..to].copy_from_slice(&data[from - at..to - at]);
                    }
                    from = to;
                }
            }
            Self::Resize(len) => {
                let mut from = len;
                while from < bytes.len() {
                    let sector = from / SECTOR;
                    let to = bytes.len().min((sector + 1) * SECTOR);
                    if has_edit(sector) {
                        bytes[from..to].fill(0);
                    }
                    from = to;
                }
            }
        }
    }
}
