//! The state that a replica and its membership loop share, and the states of a membership.
//!
//! | state | the replica | next state |
//! |---|---|---|
//! | joining | adds a member row, under a new id each time | serving, once the row is written |
//! | serving | applies changes, proves freshness, acknowledges (`serving`) | by what ended it: |
//! | – fenced | its row was changed or removed | shuts the gate; joining |
//! | – behind | the changes it needs are compacted | reads the store again as the same member, the gate open as long as proved; serving |
//! | – diverged | the history is not the one that it has applied | shuts the gate, reads the store again; joining |
//! | leaving | closes the gate permanently, then removes its row | – |

use super::{
    consensus::{MemberId, Revision},
    position::{AppliedPosition, Position},
    timing::Timing,
};
use std::sync::{Arc, Mutex, PoisonError};

/// The member row with which this replica proves and acknowledges.
#[derive(Clone, Copy)]
pub(super) struct Membership {
    pub(super) id: MemberId,
    /// The revision of the row. Fencing changes it.
    pub(super) joined: Revision,
}

/// The replica's current membership, readable by other tasks.
pub(super) type CurrentMembership = Arc<Mutex<Option<Membership>>>;

/// Why a replica cannot apply the changes in the consensus store; `None` while it can.
pub(crate) type ReplicationError = Arc<Mutex<Option<Box<str>>>>;

/// Why a membership loop ended.
pub(super) enum Interruption {
    /// The replica is no longer a member.
    Fenced,
    /// The next changes are compacted.
    Behind,
    /// The history is not the applied one.
    Diverged(&'static str),
}

/// The state that the tasks of a replica share.
pub(super) struct Context<C, F> {
    pub(super) consensus: Arc<C>,
    pub(super) follower: Arc<F>,
    pub(super) timing: Timing,
    pub(super) position: Arc<AppliedPosition>,
    pub(super) replication_error: ReplicationError,
}

impl<C, F> Context<C, F> {
    pub(super) fn current(&self) -> Arc<Position> {
        self.position.current()
    }

    pub(super) fn report(&self, replication_error: Option<Box<str>>) {
        *self.replication_error.lock().unwrap_or_else(PoisonError::into_inner) = replication_error;
    }
}
