//! Compiles the shims in `shim/`, which are preloaded into child processes.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Compiles `shim/<name>.c` into `dir` and returns the library. Needs a C compiler, which the crate's
/// dependencies need anyway.
pub(crate) fn compile(name: &str, dir: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/crash/shim/{name}.c"));
    let library = dir.join(format!("{name}.so"));
    let status = Command::new("cc")
        .args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-pthread", "-o"])
        .args([&library, &source])
        .status();
    assert!(status.expect("install a C compiler as `cc`").success(), "the shim does not compile");
    library
}
