//! Tests of the feature `axum` in the router of a host application.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helper functions fail a test by panicking"
)]

mod routes;
mod streams;
