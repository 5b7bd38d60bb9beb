//! Several replicas with one store: once a revocation has returned, all of them refuse the key.
//!
//! Design. Each replica has the whole index in memory and applies the changes in the consensus store,
//! which keeps the records (`replica`). It validates only while its gate is open. A proof opens the gate
//! for a limited time. A proof is a linearizable read that found the replica a member, at an epoch that
//! the replica has applied. A revocation waits until every member has acknowledged the change. A member
//! that does not acknowledge is waited for until its gate must have shut (`revocation_barrier`).
//!
//! Why a validation that starts after the revocation refuses. Let the change have revision R, and a
//! replica validate at time t. The replica needs a proof, read at a revision V, that was requested after
//! t − D. If V > R, the proof required an epoch of R or later to be applied. If V < R, the replica was a
//! member at V. Either it was still a member at R, and the revocation waited for it. Or it had been
//! fenced and removed, and its gate had shut by then. The revocation waits for D by the slowest clock, so
//! for more than D by the fastest. D is the freshness in the member's row. The revoking replica may have
//! another one.
//!
//! Assumptions: a linearizable consensus store; an epoch in every transaction; clocks whose *rates*
//! differ from the true one by at most 1 %. Rejected: leases of the consensus store. In measurements,
//! etcd's leader confirmed leases for two seconds after it had lost its quorum.
//!
//! Invariants, each with injected faults that the simulation finds (`tests/faults/cluster`):
//! 1. The index first, then the position, then the gate, then the acknowledgement.
//! 2. A proof counts from before its request, and only once its epoch is applied.
//! 3. Every transaction compares and puts the epoch, and links to the chain head before it.
//! 4. A fenced member counts as gone only after the hold; a member that leaves shuts first.
//! 5. A change that does not continue the applied history shuts the gate, and the whole store is read
//!    again.

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
mod known_uses;
mod last_uses;
pub(crate) mod ledger;
mod limits;
pub(crate) mod member;
mod membership;
mod version;
mod position;
mod replica;
mod revocation_barrier;
mod serving;
#[cfg(test)]
pub(crate) mod sim;
mod snapshot;
pub(crate) mod timing;
pub(crate) mod transfer;
mod use_reports;
pub(crate) mod worker;

pub use self::{
    consensus::{
        Committed, ConsensusError, ConsensusStore, Epoch, ImportProgress, Key, LastUses, Latest,
        MemberEvent, MemberId, MemberList, MemberRow, MemberWatch, Proof, RecordPage, Revision,
        Transaction, TransactionOutcome, Watch, WatchEvent, Write,
    },
    member::Replica,
};
pub use crate::ledger::{About, Following, Member, MemberState, ReplicaWait};

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
