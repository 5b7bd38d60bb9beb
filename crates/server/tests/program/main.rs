//! The program `portcullis`, as operators and scripts run it.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by a panic, in its helper functions too"
)]

mod audit;
mod backup;
mod cli;
mod command_line;
mod declared;
mod delivery;
mod files;
mod kill;
mod leaks;
mod many;
mod operation;
mod policy;
mod reach;
mod scanner_rules;
mod start;
