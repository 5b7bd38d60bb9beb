//! Clients that attack the server, truncate their requests, or are too many.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic, in its helper functions too"
)]

mod campaign;
mod intake;
mod overload;
