//! A disk that may lose its power: what is surely on it, and what a crash may have left.
//!
//! It promises only what POSIX does. The content of a file is safe once that file was synced, its
//! name once the directory was. Of what came after the last sync of a file, each sector of 512
//! bytes may be in any of the states that it went through, independently of its neighbours and of
//! the file's length: so writes are dropped, kept, torn and reordered. Of a directory, each change
//! since its last sync may have come or not, whatever came of those before it.

use super::journal::Step;
use portcullis_testkit::Chance;
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
};

const SECTOR: usize = 512;

/// Which of the unsynced changes a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// None.
    Dropped,
    /// All, as after a kill.
    Kept,
    /// For each file and directory, the first so many; the last of them torn.
    Ordered,
    /// Any, sector by sector and name by name.
    Scattered,
}

impl Fate {
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
    Dir { synced: Names, now: Names, since: Vec<Naming<'j>> },
}

#[derive(Clone, Copy)]
enum Edit<'j> {
    Write { at: usize, data: &'j [u8] },
    Resize(usize),
}

type Names = BTreeMap<String, usize>;

/// One change of a directory, which comes as a whole or not at all.
#[derive(Clone, Copy)]
struct Naming<'j> {
    takes: Option<&'j str>,
    gives: Option<(&'j str, usize)>,
}

impl Naming<'_> {
    fn apply(&self, names: &mut Names) {
        if let Some(name) = self.takes {
            names.remove(name);
        }
        if let Some((name, node)) = self.gives {
            names.insert(name.to_owned(), node);
        }
    }
}

pub(crate) struct Disk<'j> {
    /// The first is the root.
    nodes: Vec<Node<'j>>,
    by_inode: HashMap<u64, usize>,
}

impl<'j> Disk<'j> {
    /// A disk that holds what lies in `root`, all of it safe.
    pub(crate) fn of(root: &Path) -> Self {
        let mut disk = Self { nodes: Vec::new(), by_inode: HashMap::new() };
        disk.adopt(root);
        disk
    }

    fn adopt(&mut self, path: &Path) -> usize {
        let number = self.nodes.len();
        let found = fs::metadata(path).unwrap();
        self.by_inode.insert(found.ino(), number);
        if found.is_dir() {
            self.nodes.push(empty_dir());
            let mut names = Names::new();
            for entry in fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                names.insert(name, self.adopt(&entry.path()));
            }
            self.nodes[number] = Node::Dir { synced: names.clone(), now: names, since: Vec::new() };
        } else {
            let synced = fs::read(path).unwrap();
            self.nodes.push(Node::File { synced, since: Vec::new() });
        }
        number
    }

    pub(crate) fn take(&mut self, step: Step<'j>) {
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
                self.name(dir, Naming { takes: Some(old), gives: Some((new, node)) });
            }
            Step::Link { from, to } => {
                let ((old_dir, old), (dir, new)) = (self.parent(from), self.parent(to));
                let node = self.names(old_dir)[old];
                self.name(dir, Naming { takes: None, gives: Some((new, node)) });
            }
            Step::Remove { path } => {
                let (dir, name) = self.parent(path);
                self.name(dir, Naming { takes: Some(name), gives: None });
            }
            Step::Nothing | Step::Mark(_) => {}
        }
    }

    fn add(&mut self, path: &'j str, inode: u64, node: Node<'j>) {
        let number = self.nodes.len();
        self.nodes.push(node);
        self.by_inode.insert(inode, number);
        let (dir, name) = self.parent(path);
        self.name(dir, Naming { takes: None, gives: Some((name, number)) });
    }

    fn edit(&mut self, inode: u64, edit: Edit<'j>) {
        match &mut self.nodes[self.by_inode[&inode]] {
            Node::File { since, .. } => since.push(edit),
            Node::Dir { .. } => panic!("a directory was written to"),
        }
    }

    fn name(&mut self, dir: usize, naming: Naming<'j>) {
        let Node::Dir { now, since, .. } = &mut self.nodes[dir] else { panic!("not a directory") };
        naming.apply(now);
        since.push(naming);
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

    /// The same disk after no more than a kill: what was not synced still waits for it. `root`
    /// holds what the disk does with all of that.
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

    /// Writes into `place` what a crash now may leave.
    pub(crate) fn crash(&self, place: &Path, fate: Fate, chance: &mut Chance) {
        self.lay_down(0, place, fate, chance);
    }

    fn lay_down(&self, node: usize, place: &Path, fate: Fate, chance: &mut Chance) {
        match &self.nodes[node] {
            Node::File { synced, since } => {
                fs::write(place, crashed(synced, since, fate, chance)).unwrap();
            }
            Node::Dir { synced, since, .. } => {
                let mut names = synced.clone();
                let first = chance.below(since.len() + 1);
                for (at, naming) in since.iter().enumerate() {
                    let comes = match fate {
                        Fate::Dropped => false,
                        Fate::Kept => true,
                        Fate::Ordered => at < first,
                        Fate::Scattered => chance.below(2) == 0,
                    };
                    if comes {
                        naming.apply(&mut names);
                    }
                }
                fs::create_dir(place).unwrap();
                for (name, node) in names {
                    self.lay_down(node, &place.join(name), fate, chance);
                }
            }
        }
    }
}

fn empty_dir<'j>() -> Node<'j> {
    Node::Dir { synced: Names::new(), now: Names::new(), since: Vec::new() }
}

/// The content that a crash leaves of a file.
fn crashed(synced: &[u8], since: &[Edit<'_>], fate: Fate, chance: &mut Chance) -> Vec<u8> {
    let mut bytes = synced.to_vec();
    if since.is_empty() {
        return bytes;
    }
    let (salt, first) = (chance.word(), chance.below(since.len() + 1));
    // How many of the edits a sector has seen; the same each time it is asked.
    let seen = |sector: usize| {
        let mut own = Chance(salt ^ (sector as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        match fate {
            Fate::Dropped => 0,
            Fate::Kept => since.len(),
            Fate::Ordered => first + own.below(2),
            Fate::Scattered => match own.below(3) {
                0 => 0,
                1 => since.len(),
                _ => own.below(since.len() + 1),
            },
        }
    };
    // The length is no sector; it has a fate of its own.
    let length_seen = seen(usize::MAX);
    let mut lengths = vec![synced.len()];
    for (at, edit) in since.iter().enumerate() {
        let length = edit.length_after(lengths[at]);
        lengths.push(length);
        edit.apply(&mut bytes, |sector| at < seen(sector));
    }
    bytes.resize(lengths[length_seen.min(since.len())], 0);
    bytes
}

impl Edit<'_> {
    fn length_after(&self, before: usize) -> usize {
        match self {
            Self::Write { at, data } => before.max(at + data.len()),
            Self::Resize(len) => *len,
        }
    }

    /// Makes the edit in those sectors that have seen it.
    fn apply(&self, bytes: &mut Vec<u8>, has_seen: impl Fn(usize) -> bool) {
        match *self {
            Self::Write { at, data } => {
                let end = at + data.len();
                bytes.resize(bytes.len().max(end), 0);
                let mut from = at;
                while from < end {
                    let sector = from / SECTOR;
                    let to = end.min((sector + 1) * SECTOR);
                    if has_seen(sector) {
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
                    if has_seen(sector) {
                        bytes[from..to].fill(0);
                    }
                    from = to;
                }
            }
        }
    }
}
