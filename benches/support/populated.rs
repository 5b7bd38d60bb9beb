//! A store on disk with many keys.

use super::{issue::issue, run::is_measured};
use std::{
    path::{Path, PathBuf},
    thread,
};

const WRITERS: usize = 64;

/// Returns the number of keys: `KEYS`, or else a million in a measured run.
pub(crate) fn keys() -> usize {
    let default = if is_measured() { 1_000_000 } else { 300 };
    std::env::var("KEYS").map_or(default, |text| text.parse().unwrap())
}

/// Creates a temporary directory in the directory `DIR`, or else in memory where the system has
/// `/dev/shm`, so that the disk does not affect the figures.
pub(crate) fn temporary_directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    match std::env::var_os("DIR") {
        Some(dir) => tempfile::tempdir_in(dir),
        None if memory.is_dir() => tempfile::tempdir_in(memory),
        None => tempfile::tempdir(),
    }
    .unwrap()
}

/// Opens the store in the directory `STORE`, which is kept from run to run, or else in `parent`. Issues
/// keys until the store has [`keys`] of them. Returns its directory.
pub(crate) fn populate(parent: &Path) -> PathBuf {
    let dir = std::env::var_os("STORE").map_or_else(|| parent.join("keys"), PathBuf::from);
    let store = portcullis_testkit::builder().open(&dir).unwrap();
    let present = store.count();
    let missing = keys().saturating_sub(present.active + present.inactive);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = &store;
            let share = missing / WRITERS + usize::from(writer < missing % WRITERS);
            scope.spawn(move || (0..share).for_each(|number| issue(store, number)));
        }
    });
    dir
}
