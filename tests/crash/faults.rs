//! Injects disk faults into a child process: the test's side of `shim/faults.c`.

use crate::shim;
use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

const CONTROL: &str = "PORTCULLIS_FAULTS";
const ROOT: &str = "PORTCULLIS_FAULTS_ROOT";

/// Kinds of calls on files. They can be combined.
pub(crate) const WRITE: u32 = 1;
pub(crate) const SYNC: u32 = 2;
pub(crate) const OPEN: u32 = 4;
/// Creating, renaming and removing files and directories, and changing modes.
pub(crate) const NAMES: u32 = 8;
pub(crate) const READ: u32 = 16;
pub(crate) const OPEN_TO_WRITE: u32 = 32;
/// `sync_file_range`, which makes nothing durable.
pub(crate) const RANGE: u32 = 64;

/// The error number that stands for SIGKILL.
const KILL: u32 = 9999;

/// The compiled shim.
pub(crate) struct Shim {
    library: PathBuf,
    _dir: tempfile::TempDir,
}

impl Shim {
    pub(crate) fn build() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { library: shim::compile("faults", dir.path()), _dir: dir }
    }

    /// Preloads the shim into a command. The file `control` states the faults, at first none. They apply to
    /// files below `root`.
    pub(crate) fn preload(&self, command: &mut Command, control: &Path, root: &Path) -> Faults {
        let faults = Faults::at(control);
        command.env("LD_PRELOAD", &self.library).env(CONTROL, control).env(ROOT, root);
        faults
    }
}

/// The faults of a child.
pub(crate) struct Faults(File);

impl Faults {
    fn at(file: &Path) -> Self {
        fs::write(file, [0; 24]).unwrap();
        Self::open(file)
    }

    fn open(file: &Path) -> Self {
        Self(OpenOptions::new().read(true).write(true).open(file).unwrap())
    }

    /// Returns the faults of this process, which is a child.
    pub(crate) fn of_this_process() -> Option<Self> {
        std::env::var_os(CONTROL).map(|file| Self::open(Path::new(&file)))
    }

    /// Lets the first `after` of these calls succeed. Then `times` calls fail, or all if it is 0.
    pub(crate) fn fail(&self, calls: u32, error: u32, after: u32, times: u32) {
        self.write(4, &[error, after, times, 0, 0]);
        self.write(0, &[calls]);
    }

    /// Kills the process at one of its calls: before the call, or halfway through a write.
    pub(crate) fn kill(&self, after: u32) {
        self.fail(WRITE | SYNC | OPEN | NAMES | RANGE, KILL, after, 1);
    }

    /// Removes the faults.
    pub(crate) fn clear(&self) {
        self.write(0, &[0]);
    }

    /// Returns how many calls failed.
    pub(crate) fn failed(&self) -> u32 {
        let mut word = [0; 4];
        self.0.read_exact_at(&mut word, 20).unwrap();
        u32::from_ne_bytes(word)
    }

    fn write(&self, at: u64, words: &[u32]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.0.write_all_at(&bytes, at).unwrap();
    }
}
