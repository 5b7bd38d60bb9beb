//! Servers that share one store in etcd, with real etcd nodes.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by a panic, in its helper functions too"
)]

mod replicas;
mod servers;
mod shared;
