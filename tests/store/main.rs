//! The store through its public API: lives of keys, revocation, backups, the doctor, old formats.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::similar_names,
    clippy::unwrap_used,
    reason = "a test fails by a panic, in its helper functions too, and prints its counts"
)]

mod backup;
mod doctor;
mod fixtures;
mod lives;
mod revocation;
mod secrets;
mod uses;
mod walks;
mod watches;
