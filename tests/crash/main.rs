//! What a store survives: kill −9, power cuts, damaged files, and disks that fail or are full.
//!
//! The campaigns start this test binary again as a child process. They are short here; the head of
//! each file has the command of the long form.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::struct_excessive_bools,
    clippy::unwrap_used,
    reason = "a test fails by a panic, in its helper functions too, and prints its counts"
)]

mod campaign;
mod damage;
mod faults;
mod kill;
mod power;
mod starve;
