//! The administration API as a host mounts it.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic, in its helper functions too"
)]

mod audit;
mod authz;
mod example;
mod http;
mod pending;
