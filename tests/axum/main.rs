//! The feature `axum` in the router of a host application.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by a panic, in its helper functions too"
)]

mod routes;
mod streams;
