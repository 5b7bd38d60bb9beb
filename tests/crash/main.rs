//! Crash tests: kill −9, power cuts, damaged files, and disks that fail or are full.
//!
//! The campaigns run this test binary as a child process. By default they are short; the head of each
//! file has the command of the long form.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::struct_excessive_bools,
    clippy::unwrap_used,
    reason = "tests and their helper functions fail by a panic and print their counts"
)]

mod campaign;
mod damage;
mod faults;
mod kill;
mod power;
mod shim;
mod starve;
