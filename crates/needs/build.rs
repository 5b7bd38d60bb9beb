//! Has `#[needs]` look again when a program was installed or removed, or `PATH` or `CI` changed:
//! then this crate is built anew, and after it the tests that use the attribute.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PATH");
    println!("cargo::rerun-if-env-changed=CI");
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin");
    // Cargo runs a script anew at every build if it names a directory that does not exist.
    for directory in env::split_paths(&path).filter(|dir| dir.is_absolute() && dir.is_dir()) {
        println!("cargo::rerun-if-changed={}", directory.display());
    }
}
