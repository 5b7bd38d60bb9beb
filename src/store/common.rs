//! A store whose ledger is shared: plans that others overtake, and what comes from them.
//!
//! Changes are planned as ever, on what is applied and all that is queued here. The engine takes a
//! batch only if nobody else has changed the store since. If somebody has, the whole *line* of plans
//! ends: what it denied is taken back, and whoever waits plans again on what is there now. What
//! comes of an unknown outcome shows when the store has passed its number: until then what it denied
//! stays denied.

mod ends;
mod newest;

use self::ends::{End, Ends, Sent};
use super::{
    once::{self, Remembered},
    writer::{Core, KeyChange, Plans, Queued, Writer},
};
use crate::{
    clock::Clock,
    cluster::follower::{Follower, KeyState},
    codec::{AuditStart, Meta},
    digest::Seals,
    error::Error,
    gate::{Gate, Steady},
    id::KeyId,
    index::Index,
    ledger::{
        Commit, Ledger, Tip,
        shared::{Member, Settled, Shared, Verdict, fitting},
    },
    record::Standing,
    scope::{Catalogue, Scope},
    time::Timestamp,
};
use std::{sync::Arc, time::Duration};

/// Scope names that are numbered by one change, so that it goes into one transaction.
const NAMES_AT_ONCE: usize = 100;

/// What a shared ledger adds to the plans.
#[derive(Default)]
pub(super) struct Common {
    /// Rises whenever the plans made so far came to nothing.
    pub(super) line: u64,
    ends: Ends,
    /// The committed state that the next line begins with.
    base: Option<Tip>,
    /// The last entry that is cut away by then.
    floor: u64,
    /// The batch that the engine has been asked to take, if it has: its last number.
    on_its_way: Option<u64>,
    /// Denials of changes that may have been made.
    doubtful: Vec<(u64, KeyId, Standing)>,
    /// How much of the trail the requests are remembered of.
    requests_upto: u64,
    /// The host's scopes.
    host: Option<Vec<(Scope, String)>>,
    /// How many scope names the engine has numbered.
    numbered: usize,
}

impl Common {
    /// What became of a change of a line that has ended.
    pub(super) fn fate(&self, line: u64, sequence: u64) -> Result<(), Error> {
        self.ends.fate(line, sequence)
    }

    /// Takes what is about to be written: as much as goes into one transaction. The rest waits as
    /// what is queued meanwhile does.
    pub(super) fn takes(&mut self, queue: &mut Vec<Queued>) -> Vec<Queued> {
        let count = fitting(queue.iter().map(|queued| &queued.commit)).min(queue.len());
        let rest = queue.split_off(count);
        let batch = std::mem::replace(queue, rest);
        self.on_its_way = batch.last().map(|queued| queued.commit.sequence);
        batch
    }
}

impl Plans {
    /// Ends the line: nothing that it planned counts, and the next begins with what is committed.
    fn start_anew(&mut self, index: &Index, of_the_last: Option<(u64, Sent)>) {
        let end = End { line: self.common.line, committed: self.committed, of_the_last };
        self.common.ends.push(end);
        self.common.line += 1;
        self.common.on_its_way = None;
        for Queued { commit, changes } in std::mem::take(&mut self.queue) {
            denials(&commit, &changes)
                .for_each(|(sequence, id, standing)| index.retract(sequence, id, standing));
        }
        // Not what others have committed by now: their changes have the numbers of those that end here.
        let committed = self.committed;
        self.requests.forget_after(committed);
        self.common.requests_upto = self.common.requests_upto.min(committed);
        self.begin_with_base(index);
    }

    fn begin_with_base(&mut self, index: &Index) {
        if let Some(base) = self.common.base {
            (self.tip, self.committed) = (base, base.sequence);
        }
        self.floor = self.common.floor;
        self.pending.clear();
        self.lasting_roots = index.lasting_roots();
    }
}

/// What a change denies while it is on its way.
fn denials(commit: &Commit, changes: &[KeyChange]) -> impl Iterator<Item = (u64, KeyId, Standing)> {
    let sequence = commit.sequence;
    changes.iter().filter_map(move |change| {
        change.after.as_ref().map(|record| (sequence, change.id, record.standing()))
    })
}

impl Core {
    /// A store that waits to be told by a replica what there is.
    pub(super) fn following(
        ledger: Ledger,
        clock: Steady,
        seals: Arc<Seals>,
        host: Option<Vec<(Scope, String)>>,
    ) -> Result<Self, Error> {
        let tip = Tip { sequence: 0, head: [0; 32], newest: Timestamp::default() };
        let catalogue = Catalogue::new(Vec::new(), host.as_deref())?;
        let mut plans = Plans::new(tip, Remembered::default());
        plans.common.host = host;
        let parts = (ledger, Index::new());
        Ok(Self::new(
            Gate::shut_at_first(clock),
            parts,
            (Clock::new(tip.newest), seals),
            catalogue,
            plans,
        ))
    }

    /// Writes a batch and says what came of it; gives the number of the last committed change.
    #[expect(clippy::needless_pass_by_value, reason = "they are applied or dropped here")]
    pub(super) fn write_shared(
        &self,
        shared: &dyn Shared,
        commits: Vec<Commit>,
        changes: Vec<Vec<KeyChange>>,
    ) -> u64 {
        let last = commits.last().map_or(0, |commit| commit.sequence);
        let denied: Vec<_> = commits
            .iter()
            .zip(&changes)
            .flat_map(|(commit, changes)| denials(commit, changes))
            .collect();
        let verdict = shared.commit(commits);
        let mut plans = self.plan();
        match verdict {
            Verdict::Durable => {
                plans.common.on_its_way = None;
                plans.committed = plans.committed.max(last);
                plans.pending.retain(|_, (sequence, ..)| *sequence > last);
                let base = plans.common.base.map_or(0, |base| base.sequence);
                if plans.queue.is_empty() && base >= last {
                    plans.begin_with_base(&self.index);
                }
            }
            Verdict::Overtaken | Verdict::Refused(_) => {
                let of_the_last = match verdict {
                    Verdict::Refused(why) => Some((last, Sent::Refused(why))),
                    _ => None,
                };
                plans.start_anew(&self.index, of_the_last);
                for &(sequence, id, standing) in &denied {
                    self.index.retract(sequence, id, standing);
                }
            }
            Verdict::Unknown(why) => {
                plans.start_anew(&self.index, Some((last, Sent::Unknown(why))));
                plans.common.doubtful.extend(denied);
                self.resolve(&mut plans);
            }
        }
        plans.committed
    }

    /// What is in doubt is decided once the store has passed its number.
    fn resolve(&self, plans: &mut Plans) {
        let passed = plans.common.base.map_or(0, |base| base.sequence);
        plans.common.doubtful.retain(|&(sequence, id, standing)| {
            if sequence <= passed {
                self.index.retract(sequence, id, standing);
            }
            sequence > passed
        });
    }

    /// Waits for the other replicas; nothing where there are none.
    pub(super) fn settle_everywhere(&self) -> Settled {
        self.ledger.shared().map_or_else(Settled::default, Shared::settle)
    }

    /// The replicas; none where there are no others.
    pub(super) fn members(&self) -> Result<Vec<Member>, Error> {
        self.ledger.shared().map_or_else(|| Ok(Vec::new()), Shared::members)
    }

    /// Why this replica does not follow the others, if it does not.
    pub(super) fn trouble(&self) -> Option<Box<str>> {
        self.ledger.shared().and_then(Shared::trouble)
    }

    /// Reads the requests that other replicas did since those that are remembered.
    pub(super) fn learn_requests(&self) -> Result<(), Error> {
        loop {
            let plans = self.plan();
            let from = plans.common.requests_upto;
            let upto = plans.common.base.map_or(0, |base| base.sequence);
            drop(plans);
            let Some(shared) = self.ledger.shared().filter(|_| from < upto) else { return Ok(()) };
            let trail = |after, limit| shared.trail(after, limit, self.catalogue());
            let new = (from.max(shared.floor().through), upto);
            // A replica that had not read the requests of others links no entry, so that an entry
            // without a link says nothing of what lies before it.
            let requests = once::requests_in(trail, new, self.clock.now(), u64::MAX)?;
            let mut plans = self.plan();
            if plans.common.requests_upto == from {
                for entry in &requests {
                    plans.requests.note(entry);
                }
                plans.common.requests_upto = upto;
            }
        }
    }

    /// Whether all requests that are committed are remembered.
    #[expect(clippy::unused_self, reason = "asked of the store, as the rest")]
    pub(super) fn knows_requests(&self, plans: &Plans) -> bool {
        plans.common.base.is_none_or(|base| plans.common.requests_upto >= base.sequence)
    }

    /// Fails where others numbered names since these were looked at.
    pub(super) fn check_numbering(
        &self,
        plans: &Plans,
        stored: usize,
        catalogue: &'static Catalogue,
    ) -> Result<(), Error> {
        let is_current =
            plans.common.numbered == stored && std::ptr::eq(self.catalogue(), catalogue);
        if self.ledger.shared().is_none() || is_current { Ok(()) } else { Err(Error::Contended) }
    }

    /// Has the engine number what the host brings.
    pub(super) fn number_names(&self) -> Result<(), Error> {
        loop {
            let numbered = self.plan().common.numbered;
            if numbered >= self.catalogue().entries().len() {
                return Ok(());
            }
            match self.extend_catalogue(numbered, NAMES_AT_ONCE) {
                Ok(()) | Err(Error::Contended) => {}
                Err(error) => return Err(error),
            }
            // What was committed is learnt when it is applied.
            if self.plan().common.numbered == numbered {
                self.witness()?;
            }
        }
    }
}

impl Writer {
    /// Starts to write, once the replica has brought all that there is.
    pub(super) fn share(core: Arc<Core>, uses_every: Duration) -> Result<Self, Error> {
        core.index.tick(core.clock.now());
        Self::begin(core, uses_every)
    }
}

impl Follower for Core {
    fn gate(&self) -> &Gate {
        &self.gate
    }

    fn index(&self) -> &Index {
        &self.index
    }

    fn seals(&self) -> &Seals {
        &self.seals
    }

    fn catalogue(&self) -> &'static Catalogue {
        Self::catalogue(self)
    }

    fn learn(&self, names: &[Scope]) -> Result<(), Error> {
        let mut plans = self.plan();
        self.set_catalogue(Catalogue::new(names.to_vec(), plans.common.host.as_deref())?);
        plans.common.numbered = names.len();
        Ok(())
    }

    fn learn_floor(&self, floor: &AuditStart) {
        let mut plans = self.plan();
        plans.common.floor = floor.through;
        plans.floor = plans.floor.max(floor.through);
    }

    fn apply(&self, meta: &Meta, states: Vec<KeyState>) -> Result<(), Error> {
        let mut plans = self.plan();
        for KeyState { sequence, id, digest, record } in states {
            self.index.apply(sequence, id, digest, record.as_deref())?;
        }
        let newest = Timestamp::from_millis(meta.newest);
        self.clock.advance(newest);
        let sequence = meta.mark.sequence;
        plans.common.base = Some(Tip { sequence, head: meta.mark.head, newest });
        if plans.common.on_its_way.is_none() && plans.queue.is_empty() {
            plans.begin_with_base(&self.index);
        }
        self.resolve(&mut plans);
        Ok(())
    }

    fn start_over(&self) {
        let mut plans = self.plan();
        self.index.clear();
        plans.common.doubtful.clear();
        plans.pending.clear();
        (plans.common.base, plans.common.requests_upto) = (None, 0);
        (plans.common.floor, plans.floor) = (0, 0);
        plans.requests.forget_after(0);
    }

    fn end_work(&self) {
        self.index.end_watches();
    }
}

#[cfg(test)]
mod tests;
