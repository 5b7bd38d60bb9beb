//! The wait of a revocation: until no replica can accept the revoked key any more.
//!
//! | event of a member | the wait for the member ends |
//! |---|---|
//! | it acknowledges the change | at once |
//! | it leaves, or is removed by any replica | at once |
//! | it is silent for a proof interval | later: it is fenced now, and removed after a hold |
//! | it is fenced | a hold after this replica first saw it fenced |
//! | none of these | a hold after the change was committed |
//!
//! A hold is the time after which a member without a new proof must have shut its gate. It allows for
//! the different rates of the two clocks.

use super::{
    consensus::{
        ConsensusError, ConsensusStore, MemberEvent, MemberId, MemberList, MemberRow, MemberWatch,
        Revision,
    },
    member::freshness,
    timing::{self, Timing},
};
use crate::ledger::ReplicaWait;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{select, time::timeout};

/// Waits for members, and fences and removes those that are silent.
pub(crate) struct RevocationBarrier<C> {
    consensus: Arc<C>,
    timing: Timing,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// When each of these was first seen fenced.
    fenced: HashMap<MemberId, u64>,
    /// The members that this replica is fencing or removing.
    evicting: HashSet<MemberId>,
}

/// One wait: the change, and the members that are still waited for.
struct Wait {
    revision: Revision,
    /// When the answer to the change came.
    answered: u64,
    members: BTreeMap<MemberId, MemberRow>,
    result: ReplicaWait,
}

impl<C: ConsensusStore> RevocationBarrier<C> {
    pub(crate) fn new(consensus: Arc<C>, timing: Timing) -> Arc<Self> {
        Arc::new(Self { consensus, timing, known: Mutex::default() })
    }

    /// Waits until each member at `revision` has applied it, is gone, or has shut its gate because its
    /// proofs expired. `answered` is when the answer to the change came. Each hold is computed from the
    /// freshness of the member, not of this replica.
    pub(crate) async fn wait(
        self: &Arc<Self>,
        revision: Revision,
        members: Vec<MemberRow>,
        answered: u64,
    ) -> ReplicaWait {
        let (result, none) = (ReplicaWait::default(), BTreeMap::new());
        let mut wait = Wait { revision, answered, members: none, result };
        for member in members {
            self.add(&mut wait, member);
        }
        let mut suspects = BTreeSet::new();
        let mut watch = Some(self.consensus.watch_members(revision));
        while !wait.members.is_empty() {
            let members = wait.members.values();
            let next_end = members.clone().map(|member| self.end_of_wait(&wait, member)).min();
            let unsuspected = members.filter(|member| !suspects.contains(&member.id));
            let next_silent = unsuspected.map(|member| silent_at(&wait, member)).min();
            select! {
                biased;
                () = self.timing.sleep_until(next_end.unwrap_or_default()) => {
                    self.end_waits(&mut wait);
                }
                events = next_events(&mut watch) => match events {
                    Some(events) => events.into_iter().for_each(|event| self.take(&mut wait, event)),
                    None => watch = None,
                },
                () = self.timing.sleep_until(next_silent.unwrap_or_default()), if next_silent.is_some() => {
                    let now = self.timing.now();
                    for member in wait.members.values() {
                        if silent_at(&wait, member) <= now && suspects.insert(member.id) {
                            self.evict(member.clone());
                        }
                    }
                }
                MemberList { revision: at, members, .. } = self.read_members(), if watch.is_none() => {
                    // A member that is no longer listed has left or was removed.
                    let waited_for = std::mem::take(&mut wait.members);
                    for member in members {
                        if waited_for.contains_key(&member.id) {
                            self.add(&mut wait, member);
                        }
                    }
                    watch = Some(self.consensus.watch_members(at));
                }
            }
        }
        wait.result
    }

    /// Waits for a member, unless it has acknowledged the change already.
    fn add(self: &Arc<Self>, wait: &mut Wait, member: MemberRow) {
        if member.applied >= wait.revision {
            wait.result.acknowledged += 1;
            return;
        }
        if member.is_fenced {
            self.saw_fenced(&member);
        }
        wait.members.insert(member.id, member);
    }

    fn take(self: &Arc<Self>, wait: &mut Wait, event: MemberEvent) {
        match event {
            MemberEvent::Applied(id, applied) if applied >= wait.revision => {
                wait.result.acknowledged += usize::from(wait.members.remove(&id).is_some());
            }
            MemberEvent::Changed(member) if wait.members.contains_key(&member.id) => {
                wait.members.remove(&member.id);
                self.add(wait, member);
            }
            MemberEvent::Removed(id) => {
                let was_fenced = self.known().fenced.remove(&id).is_some();
                let was_waited_for = wait.members.remove(&id).is_some();
                wait.result.timed_out += usize::from(was_waited_for && was_fenced);
            }
            MemberEvent::Applied(..) | MemberEvent::Changed(_) => {}
        }
    }

    /// Returns the time at which a member must have shut its gate. This is a hold after the answer to the
    /// change, or after the member was seen fenced, whichever is earlier.
    fn end_of_wait(&self, wait: &Wait, member: &MemberRow) -> u64 {
        let fenced = self.known().fenced.get(&member.id).copied();
        let since = fenced.map_or(wait.answered, |seen| seen.min(wait.answered));
        since.saturating_add(timing::hold(freshness(member)))
    }

    fn end_waits(&self, wait: &mut Wait) {
        let now = self.timing.now();
        let members = std::mem::take(&mut wait.members);
        let before = members.len();
        let is_open = |(_, member): &(MemberId, MemberRow)| self.end_of_wait(wait, member) > now;
        let left: BTreeMap<_, _> = members.into_iter().filter(is_open).collect();
        wait.result.timed_out += before - left.len();
        wait.members = left;
    }

    /// Records when a member was first seen fenced. A member that is fenced now can prove nothing from now
    /// on. The replica that fenced it may be gone, so every replica that sees it removes it.
    fn saw_fenced(self: &Arc<Self>, member: &MemberRow) {
        let now = self.timing.now();
        self.known().fenced.entry(member.id).or_insert(now);
        self.evict(member.clone());
    }

    /// Fences a member, and removes it once its gate must have shut. Other replicas may do the same
    /// at the same time: each step succeeds once.
    fn evict(self: &Arc<Self>, member: MemberRow) {
        let id = member.id;
        if !self.known().evicting.insert(id) {
            return;
        }
        let barrier = Arc::clone(self);
        tokio::spawn(async move {
            if let Some(fenced) = barrier.fence(&member).await {
                let seen = barrier.known().fenced.get(&id).copied();
                let seen = seen.unwrap_or_else(|| barrier.timing.now());
                let wait = timing::hold(freshness(&member));
                barrier.timing.sleep_until(seen.saturating_add(wait)).await;
                let removal = barrier.consensus.remove_member(id, fenced);
                let _ = timeout(barrier.timing.call_timeout(), removal).await;
            }
            let mut known = barrier.known();
            known.evicting.remove(&id);
            known.fenced.remove(&id);
        });
    }

    /// Fences a member. Returns the revision of the fenced row; `None` if it could not be fenced now.
    async fn fence(&self, member: &MemberRow) -> Option<Revision> {
        if member.is_fenced {
            return Some(member.revision);
        }
        let fenced = timeout(self.timing.call_timeout(), self.consensus.fence(member)).await;
        let no_answer = |_| Err(ConsensusError::Unavailable("no answer came".into()));
        let revision = fenced.unwrap_or_else(no_answer).ok().flatten()?;
        let now = self.timing.now();
        self.known().fenced.entry(member.id).or_insert(now);
        Some(revision)
    }

    /// Reads all members, and retries until that succeeds.
    pub(super) async fn read_members(&self) -> MemberList {
        loop {
            if let Ok(Ok(found)) =
                timeout(self.timing.call_timeout(), self.consensus.members()).await
            {
                return found;
            }
            self.timing.sleep(self.timing.retry_delay()).await;
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns when a member that has not acknowledged is fenced.
fn silent_at(wait: &Wait, member: &MemberRow) -> u64 {
    wait.answered.saturating_add(timing::proof_interval(freshness(member)))
}

async fn next_events<W: MemberWatch>(watch: &mut Option<W>) -> Option<Vec<MemberEvent>> {
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}
