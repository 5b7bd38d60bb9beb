//! The options of `apply`.

use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Apply {
    /// The file (TOML), with a table [keys.NAME] for each key.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Create the keys that the plan has as create.
    #[arg(long)]
    pub(crate) yes: bool,
    /// With --yes: deactivate the keys whose entry is gone, and those whose entry has another secret now.
    #[arg(long)]
    pub(crate) prune: bool,
    /// Create keys although the audit log was pruned: a key that was deleted before could come back.
    #[arg(long)]
    pub(crate) accept_pruned_log: bool,
}
