//! Whoever takes something away waits here, until no replica can accept it any more.

use super::{
    journal::{Fault, Incarnation, Journal, Member, Muster, Revision, Roll, Turn},
    timing::Timing,
};
use crate::ledger::shared::Settled;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{select, time::timeout};

/// Waits for members, and fences and removes those that are silent.
pub(crate) struct Revoker<J> {
    journal: Arc<J>,
    timing: Timing,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// When each of these was first seen fenced.
    fenced: HashMap<Incarnation, u64>,
    /// Those that are being fenced or removed by us.
    evicted: HashSet<Incarnation>,
}

impl<J: Journal> Revoker<J> {
    pub(crate) fn new(journal: Arc<J>, timing: Timing) -> Arc<Self> {
        Arc::new(Self { journal, timing, known: Mutex::default() })
    }

    /// Waits until each of the members that there were at `revision` has applied it, is gone, or
    /// was seen fenced a hold ago; at most until a hold after `answered`, when the answer came to the
    /// change. The hold is each member's own, so that what it was told to wait for at `revision` is
    /// waited for whatever the freshness here is.
    pub(crate) async fn settle(
        self: &Arc<Self>,
        revision: Revision,
        members: Vec<Member>,
        answered: u64,
    ) -> Settled {
        let (mut settled, mut open) = (Settled::default(), BTreeMap::new());
        for member in members {
            self.take(member, revision, &mut open, &mut settled);
        }
        let mut suspects = BTreeSet::new();
        let mut roll = Some(self.journal.roll(revision));
        while !open.is_empty() {
            let next = open.values().map(|member| self.out_at(member, answered)).min();
            let silent = open.values().filter(|member| !suspects.contains(&member.incarnation));
            let silent = silent.map(|member| self.silent_at(member, answered)).min();
            select! {
                biased;
                () = self.timing.sleep_until(next.unwrap_or_default()) => {
                    self.count_out(answered, &mut open, &mut settled);
                }
                turns = turns(&mut roll) => match turns {
                    Some(turns) => {
                        for turn in turns {
                            self.turn(turn, revision, &mut open, &mut settled);
                        }
                    }
                    None => roll = None,
                },
                () = self.timing.sleep_until(silent.unwrap_or_default()), if silent.is_some() => {
                    let now = self.timing.now();
                    for member in open.values() {
                        if self.silent_at(member, answered) <= now
                            && suspects.insert(member.incarnation)
                        {
                            self.evict(member.clone());
                        }
                    }
                }
                Muster { revision: at, members, .. } = self.look_again(), if roll.is_none() => {
                    let mut there = BTreeMap::new();
                    for member in members {
                        if open.contains_key(&member.incarnation) {
                            self.take(member, revision, &mut there, &mut settled);
                        }
                    }
                    // Who is not there any more was removed, or has left.
                    open = there;
                    roll = Some(self.journal.roll(at));
                }
            }
        }
        settled
    }

    /// Counts a member in, unless nobody has to wait for it.
    fn take(
        self: &Arc<Self>,
        member: Member,
        revision: Revision,
        open: &mut BTreeMap<Incarnation, Member>,
        settled: &mut Settled,
    ) {
        if member.applied >= revision {
            settled.acknowledged += 1;
            return;
        }
        if member.is_fenced {
            self.saw_fenced(&member);
        }
        open.insert(member.incarnation, member);
    }

    fn turn(
        self: &Arc<Self>,
        turn: Turn,
        revision: Revision,
        open: &mut BTreeMap<Incarnation, Member>,
        settled: &mut Settled,
    ) {
        match turn {
            Turn::Applied(who, applied) if applied >= revision => {
                settled.acknowledged += usize::from(open.remove(&who).is_some());
            }
            Turn::Changed(member) if open.contains_key(&member.incarnation) => {
                open.remove(&member.incarnation);
                self.take(member, revision, open, settled);
            }
            Turn::Gone(who) => {
                let was_fenced = self.known().fenced.remove(&who).is_some();
                let was_open = open.remove(&who).is_some();
                settled.waited_out += usize::from(was_open && was_fenced);
            }
            Turn::Applied(..) | Turn::Changed(_) => {}
        }
    }

    /// When a member must have shut: a hold after the answer to the change, or after it was seen
    /// fenced, whichever is sooner.
    fn out_at(&self, member: &Member, answered: u64) -> u64 {
        let fenced = self.known().fenced.get(&member.incarnation).copied();
        let since = fenced.map_or(answered, |seen| seen.min(answered));
        since.saturating_add(self.timing.hold_for(member.freshness()))
    }

    /// When a member that has said nothing is fenced.
    fn silent_at(&self, member: &Member, answered: u64) -> u64 {
        answered.saturating_add(self.timing.silence_of(member.freshness()))
    }

    fn count_out(
        &self,
        answered: u64,
        open: &mut BTreeMap<Incarnation, Member>,
        settled: &mut Settled,
    ) {
        let (now, before) = (self.timing.now(), open.len());
        open.retain(|_, member| self.out_at(member, answered) > now);
        settled.waited_out += before - open.len();
    }

    /// A mark that we see now was made before now, so that from now on the member proves nothing.
    /// Whoever made it may be gone: whoever sees it removes the member.
    fn saw_fenced(self: &Arc<Self>, member: &Member) {
        let now = self.timing.now();
        self.known().fenced.entry(member.incarnation).or_insert(now);
        self.evict(member.clone());
    }

    /// Fences a member, and removes it once it must have shut. Others may do so at the same time;
    /// the engine lets each step happen once.
    fn evict(self: &Arc<Self>, member: Member) {
        let who = member.incarnation;
        if !self.known().evicted.insert(who) {
            return;
        }
        let revoker = Arc::clone(self);
        tokio::spawn(async move {
            if let Some(fenced) = revoker.fence(&member).await {
                let seen = revoker.known().fenced.get(&who).copied();
                let seen = seen.unwrap_or_else(|| revoker.timing.now());
                let wait = revoker.timing.hold_for(member.freshness());
                revoker.timing.sleep_until(seen.saturating_add(wait)).await;
                let removal = revoker.journal.remove(who, fenced);
                let _ = timeout(revoker.timing.patience(), removal).await;
            }
            let mut known = revoker.known();
            known.evicted.remove(&who);
            known.fenced.remove(&who);
        });
    }

    /// The revision of the fenced row; `None` where it could not be fenced now.
    async fn fence(&self, member: &Member) -> Option<Revision> {
        if member.is_fenced {
            return Some(member.revision);
        }
        let fenced = timeout(self.timing.patience(), self.journal.fence(member)).await;
        let fenced = fenced.unwrap_or_else(|_| Err(Fault::Unreachable("no answer came".into())));
        let revision = fenced.ok().flatten()?;
        let now = self.timing.now();
        self.known().fenced.entry(member.incarnation).or_insert(now);
        Some(revision)
    }

    /// All members anew, as often as it takes.
    pub(super) async fn look_again(&self) -> Muster {
        loop {
            if let Ok(Ok(found)) = timeout(self.timing.patience(), self.journal.members()).await {
                return found;
            }
            self.timing.sleep(self.timing.pause()).await;
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn turns<R: Roll>(roll: &mut Option<R>) -> Option<Vec<Turn>> {
    match roll {
        Some(roll) => roll.next().await,
        None => std::future::pending().await,
    }
}
