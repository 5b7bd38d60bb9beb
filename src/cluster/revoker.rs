//! The wait of a revocation: until no replica can accept the revoked key any more.
//!
//! | a member that the revocation waits for | ends the wait for it |
//! |---|---|
//! | acknowledges the change | at once |
//! | leaves, or is removed by anyone | at once |
//! | is silent for a beat | no: it is fenced, and removed after a hold |
//! | is fenced | a hold after it was first seen fenced |
//! | anything else | a hold after the change was committed |
//!
//! A hold is the time after which a member that proves nothing has shut its gate, by any two clocks.

use super::{
    consensus::{
        ConsensusError, ConsensusStore, MemberEvent, MemberId, MemberList, MemberRow, MemberWatch,
        Revision,
    },
    member::freshness,
    timing::{self, Timing},
};
use crate::ledger::Settled;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{select, time::timeout};

/// Waits for members, and fences and removes those that are silent.
pub(crate) struct Revoker<C> {
    consensus: Arc<C>,
    timing: Timing,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// When each of these was first seen fenced.
    fenced: HashMap<MemberId, u64>,
    /// Those that this replica is about to fence or remove.
    evicting: HashSet<MemberId>,
}

/// One wait: the change, and what is left to wait for.
struct Wait {
    revision: Revision,
    /// When the answer to the change came.
    answered: u64,
    members: BTreeMap<MemberId, MemberRow>,
    settled: Settled,
}

impl<C: ConsensusStore> Revoker<C> {
    pub(crate) fn new(consensus: Arc<C>, timing: Timing) -> Arc<Self> {
        Arc::new(Self { consensus, timing, known: Mutex::default() })
    }

    /// Waits until each of the members that there were at `revision` has applied it, is gone, or has
    /// shut its gate for want of proofs. `answered` is when the answer to the change came. Each hold
    /// is computed from that member's freshness, whatever the freshness of this replica is.
    pub(crate) async fn wait(
        self: &Arc<Self>,
        revision: Revision,
        members: Vec<MemberRow>,
        answered: u64,
    ) -> Settled {
        let (settled, none) = (Settled::default(), BTreeMap::new());
        let mut wait = Wait { revision, answered, members: none, settled };
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
                    // A member that is not listed any more has left, or was removed.
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
        wait.settled
    }

    /// Waits for a member, unless it has acknowledged the change already.
    fn add(self: &Arc<Self>, wait: &mut Wait, member: MemberRow) {
        if member.applied >= wait.revision {
            wait.settled.acknowledged += 1;
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
                wait.settled.acknowledged += usize::from(wait.members.remove(&id).is_some());
            }
            MemberEvent::Changed(member) if wait.members.contains_key(&member.id) => {
                wait.members.remove(&member.id);
                self.add(wait, member);
            }
            MemberEvent::Removed(id) => {
                let was_fenced = self.known().fenced.remove(&id).is_some();
                let was_waited_for = wait.members.remove(&id).is_some();
                wait.settled.waited_out += usize::from(was_waited_for && was_fenced);
            }
            MemberEvent::Applied(..) | MemberEvent::Changed(_) => {}
        }
    }

    /// When a member must have shut its gate: a hold after the answer to the change, or after the
    /// member was seen fenced, whichever is sooner.
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
        wait.settled.waited_out += before - left.len();
        wait.members = left;
    }

    /// A member that is seen fenced now was fenced before now, so from now on it proves nothing. The
    /// replica that fenced it may be gone, so every replica that sees it removes it.
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
        let revoker = Arc::clone(self);
        tokio::spawn(async move {
            if let Some(fenced) = revoker.fence(&member).await {
                let seen = revoker.known().fenced.get(&id).copied();
                let seen = seen.unwrap_or_else(|| revoker.timing.now());
                let wait = timing::hold(freshness(&member));
                revoker.timing.sleep_until(seen.saturating_add(wait)).await;
                let removal = revoker.consensus.remove_member(id, fenced);
                let _ = timeout(revoker.timing.patience(), removal).await;
            }
            let mut known = revoker.known();
            known.evicting.remove(&id);
            known.fenced.remove(&id);
        });
    }

    /// The revision of the fenced row; `None` if the member could not be fenced now.
    async fn fence(&self, member: &MemberRow) -> Option<Revision> {
        if member.is_fenced {
            return Some(member.revision);
        }
        let fenced = timeout(self.timing.patience(), self.consensus.fence(member)).await;
        let no_answer = |_| Err(ConsensusError::Unavailable("no answer came".into()));
        let revision = fenced.unwrap_or_else(no_answer).ok().flatten()?;
        let now = self.timing.now();
        self.known().fenced.entry(member.id).or_insert(now);
        Some(revision)
    }

    /// Reads all members, and tries again until that succeeds.
    pub(super) async fn read_members(&self) -> MemberList {
        loop {
            if let Ok(Ok(found)) = timeout(self.timing.patience(), self.consensus.members()).await {
                return found;
            }
            self.timing.sleep(self.timing.pause()).await;
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a member that has not answered is fenced.
fn silent_at(wait: &Wait, member: &MemberRow) -> u64 {
    wait.answered.saturating_add(timing::beat(freshness(member)))
}

async fn next_events<W: MemberWatch>(watch: &mut Option<W>) -> Option<Vec<MemberEvent>> {
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}
