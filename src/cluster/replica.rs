//! The main task of a replica: it joins, serves as a member, recovers, and leaves.
//!
//! One task does all of this in sequence. So the order that the invariants require is the order of the
//! code, and ending the task also ends the proofs. `membership` has the states.

use super::{
    acknowledgements::Acknowledgements,
    bootstrap::{BootstrapError, bootstrap},
    consensus::{ConsensusError, ConsensusStore},
    follower::Follower,
    member::MemberInfo,
    membership::{Context, CurrentMembership, Interruption, Membership, ReplicationError},
    position::{AppliedPosition, Position},
    serving::Serving,
    timing::Timing,
};
use crate::error::Error;
use std::sync::{Arc, PoisonError};
use tokio::{select, sync::watch, time::timeout};

/// A replica before it runs.
pub(crate) struct ReplicaTask<C, F> {
    context: Context<C, F>,
    info: MemberInfo,
    /// The row to remove when the replica leaves.
    membership: CurrentMembership,
}

impl<C: ConsensusStore, F: Follower> ReplicaTask<C, F> {
    pub(crate) fn new(
        consensus: Arc<C>,
        follower: Arc<F>,
        timing: Timing,
        info: MemberInfo,
        start: Position,
    ) -> Self {
        let (position, replication_error) =
            (AppliedPosition::new(start), ReplicationError::default());
        let context = Context { consensus, follower, timing, position, replication_error };
        Self { context, info, membership: Arc::default() }
    }

    pub(super) fn current_membership(&self) -> CurrentMembership {
        Arc::clone(&self.membership)
    }

    pub(crate) fn position(&self) -> Arc<AppliedPosition> {
        Arc::clone(&self.context.position)
    }

    pub(crate) fn replication_error(&self) -> ReplicationError {
        Arc::clone(&self.context.replication_error)
    }

    /// Runs until `leave` becomes true.
    pub(crate) async fn run(self, mut leave: watch::Receiver<bool>) {
        select! {
            biased;
            _ = leave.wait_for(|leave| *leave) => {}
            () = self.follow() => {}
            () = self.end_watches_when_shut() => {}
        }
        // The proofs have ended, so nothing opens the gate again. The member is removed only now: from then
        // on no revocation waits for this replica.
        let Context { consensus, follower, timing, .. } = &self.context;
        follower.gate().close();
        follower.end_watches();
        if let Some(Membership { id, joined }) = self.membership() {
            let _ = timeout(timing.call_timeout(), consensus.remove_member(id, joined)).await;
        }
    }

    async fn follow(&self) {
        let mut interruption = None;
        let mut acknowledgements = Acknowledgements::default();
        loop {
            match interruption {
                None => {}
                Some(Interruption::Fenced) => self.stop_answering(),
                Some(Interruption::Behind) => self.bootstrap(true).await,
                Some(Interruption::Diverged(reason)) => {
                    self.context.report(Some(reason.into()));
                    self.stop_answering();
                    self.bootstrap(false).await;
                }
            }
            let membership = if let Some(membership) = self.membership() {
                membership
            } else {
                acknowledgements = Acknowledgements::default();
                let membership = self.join().await;
                if membership.joined <= self.context.current().applied {
                    let reason = "the consensus store went back to an earlier revision";
                    interruption = Some(Interruption::Diverged(reason));
                    continue;
                }
                membership
            };
            let serving = Serving::new(&self.context, membership, &mut acknowledgements);
            interruption = Some(serving.run().await);
        }
    }

    fn stop_answering(&self) {
        self.context.follower.gate().shut();
        self.context.follower.end_watches();
        *self.membership.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn bootstrap(&self, continues: bool) {
        let Context { consensus, follower, timing, position, .. } = &self.context;
        let mut known = continues.then(|| self.context.current());
        loop {
            match bootstrap(&**consensus, &**follower, &mut known).await {
                Ok(start) => {
                    self.context.report(None);
                    position.restart_at(start);
                    return;
                }
                Err(BootstrapError::Consensus(ConsensusError::Unavailable(reason))) => {
                    self.context.report(Some(reason));
                }
                Err(BootstrapError::Consensus(ConsensusError::Compacted)) => {}
                Err(error) => {
                    // The applied state is not known to be the state of the consensus store.
                    follower.gate().shut();
                    self.context.report(Some(Error::from(error).to_string().into()));
                }
            }
            timing.sleep(timing.retry_delay()).await;
        }
    }

    async fn join(&self) -> Membership {
        let Context { consensus, timing, .. } = &self.context;
        loop {
            let info = self.info.joining().encode();
            if let Ok(id) = timing.member_id()
                && let Ok(Ok(joined)) =
                    timeout(timing.call_timeout(), consensus.join(id, &info)).await
            {
                let membership = Membership { id, joined };
                *self.membership.lock().unwrap_or_else(PoisonError::into_inner) = Some(membership);
                return membership;
            }
            timing.sleep(timing.retry_delay()).await;
        }
    }

    /// Ends all watches when the gate shuts, because revocations of their keys could not be observed.
    async fn end_watches_when_shut(&self) {
        let Context { follower, timing, .. } = &self.context;
        let mut was_open = false;
        loop {
            let left = follower.gate().remaining();
            if left == 0 && was_open {
                follower.end_watches();
            }
            was_open = left > 0;
            timing.sleep(if was_open { left } else { timing.retry_delay() }).await;
        }
    }

    fn membership(&self) -> Option<Membership> {
        *self.membership.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
