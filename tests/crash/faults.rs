//! The other side of `faults.c`: a disk that fails as a test says, under a child process.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
};

const CONTROL: &str = "PORTCULLIS_FAULTS";
const ROOT: &str = "PORTCULLIS_FAULTS_ROOT";

/// Kinds of calls on files, to be added.
pub(crate) const WRITE: u32 = 1;
pub(crate) const SYNC: u32 = 2;
pub(crate) const OPEN: u32 = 4;
/// Files and directories are made, renamed, removed, or get other permissions.
pub(crate) const NAMES: u32 = 8;
pub(crate) const READ: u32 = 16;
pub(crate) const OPEN_TO_WRITE: u32 = 32;
/// Parts of files are handed to the disk, which promises nothing.
pub(crate) const RANGE: u32 = 64;

/// Instead of an error: SIGKILL.
const KILL: u32 = 9999;

/// The compiled shim.
pub(crate) struct Shim(tempfile::TempDir);

impl Shim {
    /// Built with the C compiler that the crate's dependencies need anyway.
    pub(crate) fn build() -> Self {
        let place = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/faults.c");
        let built = Command::new("cc")
            .args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
            .args([place.path().join("faults.so"), source])
            .status();
        assert!(built.expect("install a C compiler as `cc`").success());
        Self(place)
    }

    /// Puts a command under it. The faults, none at first, are told to the file `control`, and are
    /// for what lies below `root`.
    pub(crate) fn preload(&self, command: &mut Command, control: &Path, root: &Path) -> Faults {
        let faults = Faults::at(control);
        command
            .env("LD_PRELOAD", self.0.path().join("faults.so"))
            .env(CONTROL, control)
            .env(ROOT, root);
        faults
    }
}

/// What is to fail.
pub(crate) struct Faults(File);

impl Faults {
    fn at(file: &Path) -> Self {
        fs::write(file, [0; 24]).unwrap();
        Self::open(file)
    }

    fn open(file: &Path) -> Self {
        Self(OpenOptions::new().read(true).write(true).open(file).unwrap())
    }

    /// In the child: those that its parent made.
    pub(crate) fn of_this_process() -> Option<Self> {
        std::env::var_os(CONTROL).map(|file| Self::open(Path::new(&file)))
    }

    /// From now on: the first `after` of these calls are let through, then `times` fail, or all
    /// where it is 0.
    pub(crate) fn fail(&self, calls: u32, error: u32, after: u32, times: u32) {
        self.write(4, &[error, after, times, 0, 0]);
        self.write(0, &[calls]);
    }

    /// The process ends at one of its calls: before it, or halfway through a write.
    pub(crate) fn kill(&self, after: u32) {
        self.fail(WRITE | SYNC | OPEN | NAMES | RANGE, KILL, after, 1);
    }

    /// The cause is gone.
    pub(crate) fn clear(&self) {
        self.write(0, &[0]);
    }

    /// How many calls failed since.
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
