//! Checks that a consensus store keeps its contract: one entry point for every implementation.
//!
//! [`check`] uses an implementation as replicas do, with several clients at a time. In between, it makes
//! the implementation unreachable and crashes it. It returns the first violation of the
//! [contract](super::ConsensusStore). The check does not cover faults that the [`Fixture`] cannot cause: a
//! node that lost its quorum, or a network that delivers a request late.
//!
//! Examples of a fixture: `crates/etcd/tests/conformance.rs`, and `src/cluster/sim/conformance.rs` for a
//! store in memory.
//!
//! ```no_run
//! use portcullis::cluster::{ConsensusStore, conformance::{self, Fixture, Violation}};
//!
//! async fn conforms(mut fixture: impl Fixture) -> Result<(), Violation> {
//!     conformance::check(&mut fixture).await
//! }
//! ```

mod data;
mod fixture;
mod imports;
mod members;
mod outages;
mod transactions;
mod watches;
mod writer;

pub use self::fixture::{Fixture, Violation};

/// Checks every part of the contract.
///
/// Takes some seconds, and the timeouts of the calls that must fail while all nodes hang. With etcd this
/// is about one and a half minutes in total.
pub async fn check<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    Box::pin(transactions::check(fixture)).await?;
    Box::pin(data::check(fixture)).await?;
    Box::pin(watches::check(fixture)).await?;
    Box::pin(members::check(fixture)).await?;
    Box::pin(imports::check(fixture)).await?;
    Box::pin(outages::check(fixture)).await
}
