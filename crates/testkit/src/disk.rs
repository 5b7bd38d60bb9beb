//! Temporary directories, copies of directories, and all records of a store.

use portcullis::{Record, Store};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

/// Creates a temporary directory, in memory if the host has `/dev/shm`.
pub fn room() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    dir.unwrap()
}

/// Copies a directory and its content. Removes write permission for group and others, which a
/// checkout may have.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let close = |from: &Path, to: &Path| {
        let mode = fs::metadata(from).unwrap().permissions().mode();
        fs::set_permissions(to, fs::Permissions::from_mode(mode & !0o022)).unwrap();
    };
    close(from, to);
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
            close(&entry.path(), &target);
        }
    }
}

/// Replaces a directory by a copy of another one.
pub fn replace(from: &Path, to: &Path) {
    fs::remove_dir_all(to).unwrap();
    copy(from, to);
}

/// Returns every record, newest first.
pub fn records(store: &Store) -> Vec<Arc<Record>> {
    store.records().collect()
}
