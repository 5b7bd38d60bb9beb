//! The arguments of a bench that runs itself as a child process.

use std::path::PathBuf;

/// Returns the arguments of the child process; `None` in the parent process.
pub(crate) fn child_arguments() -> Option<Vec<PathBuf>> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == "child").then(|| arguments.map(PathBuf::from).collect())
}
