//! The server with other programs: HTTP clients, reverse proxies, a fuzzer of its `OpenAPI`
//! description.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by a panic, in its helper functions too"
)]

mod caddy;
mod callers;
mod echo;
mod nginx;
mod openapi;
mod proxied;
