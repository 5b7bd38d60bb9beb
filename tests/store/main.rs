//! The store through its public API: keys, revocation, the audit log, backups, the doctor, and old
//! formats.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::similar_names,
    clippy::unwrap_used,
    reason = "helper functions fail a test by panicking, and some tests print their counts"
)]

mod audit;
mod backup;
mod doctor;
mod fixtures;
mod imports;
mod last_used;
mod lists;
mod lifecycle;
mod model;
mod networks;
mod policy;
mod rates;
mod revocation;
mod secrets;
mod watches;
