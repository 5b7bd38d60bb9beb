//! `completions` and `man`: what shells and manual pages need, made from the definition of the commands.

use super::{args::Arguments, failure::Failure, output};
use clap::CommandFactory;
use clap_complete::Shell;
use std::{fs, path::Path, process::ExitCode};

/// `completions`: prints the completions for a shell.
pub(crate) fn completions(shell: Shell) -> Result<ExitCode, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "portcullis", &mut text);
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// `man`: writes a manual page for the program and for each command into a directory.
pub(crate) fn pages(dir: &Path) -> Result<ExitCode, Failure> {
    let doing = format!("writing manual pages into {}", dir.display());
    fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), dir))
        .map_err(Failure::io(doing))?;
    output::say(&format!("the manual pages are in {}", dir.display()));
    Ok(ExitCode::SUCCESS)
}
