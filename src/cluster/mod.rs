//! Several replicas with one store: a revocation that is over when it returns, on all of them.
//!
//! Design. Each replica has the whole index in memory and follows the engine that keeps the records
//! (`replica`). It answers only while its gate is open, and the gate is opened for a while by a
//! proof: a linearizable read that found the replica a member, at an epoch that it has applied.
//! Whoever takes something away waits until every member has said that it has applied the change,
//! or until those that have not must have shut their gates (`revoker`).
//!
//! Why a validation that starts after that refuses. Say the change has revision R, and a replica
//! answers at time t. It needs a proof, at some revision V, that was asked for after t − D. If V > R,
//! the proof asked for an epoch of R or later to be applied. If V < R, the replica was a member at
//! V; at R it still was one, and was waited for, or it had been fenced and removed, and had shut by
//! then. What is waited out takes D by the slowest clock, so more than D by the fastest; and D is
//! the member's own, which stands in its row: whoever waits may have another.
//!
//! It rests on: a linearizable engine; an epoch in every transaction; clocks whose *rates* differ
//! from the true one by at most a hundredth. Leases of the engine would not do: measured, etcd's
//! leader went on confirming them for two seconds after it had lost its quorum.
//!
//! Invariants, each with injected faults that the simulation finds (`tests/faults/cluster`):
//! 1. The index first, then `applied`, then the gate, then the acknowledgement.
//! 2. A proof counts from before it was asked for, and only once its epoch is applied.
//! 3. Every transaction compares and puts the epoch, and links to the chain head before it.
//! 4. A fenced member counts as gone only after the hold; a member that leaves shuts first.
//! 5. What does not continue the history that was applied shuts the gate, and all is read again.

use crate::error::Error;
use tokio::runtime::{Builder, Runtime};

mod acknowledgements;
mod bootstrap;
mod committer;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod consensus;
pub(crate) mod follower;
mod handle;
mod keys;
mod last_uses;
pub(crate) mod ledger;
mod limits;
pub(crate) mod member;
mod membership;
mod moment;
mod position;
mod replica;
mod revoker;
mod serving;
#[cfg(test)]
pub(crate) mod sim;
mod snapshot;
pub(crate) mod timing;
pub(crate) mod transfer;
pub(crate) mod worker;

pub use self::{
    consensus::{
        Committed, ConsensusError, ConsensusStore, Epoch, ImportProgress, Key, LastUses, Latest,
        MemberEvent, MemberId, MemberList, MemberRow, MemberWatch, Proof, RecordPage, Revision,
        Transaction, TransactionOutcome, Watch, WatchEvent, Write,
    },
    member::Replica,
};
pub use crate::ledger::{About, Following, Member, MemberState, Settled};

/// Returns the members of the store in `consensus`, by name, without becoming a member.
///
/// A replica reads them by [`Store::members`](crate::Store::members). Must not be called within an
/// asynchronous runtime.
pub fn members<C: ConsensusStore>(consensus: &C) -> Result<Vec<Member>, Error> {
    Ok(member::listed(runtime()?.block_on(consensus.members())?, None))
}

/// The runtime of a call that waits for the consensus store.
pub(crate) fn runtime() -> Result<Runtime, Error> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Error::io("starting", error))
}
