//! Tests that the simulated consensus store passes the conformance suite, and that faulty ones fail it.

use super::{
    Rng,
    link::{Link, LinkMemberWatch, LinkWatch},
    memory::Memory,
    tests::simulated,
};
use crate::cluster::{
    conformance::{self, Fixture, Violation},
    consensus::{
        ConsensusError, ConsensusStore, Epoch, ImportProgress, Key, LastUses, Latest, MemberEvent,
        MemberId, MemberList, MemberRow, MemberWatch, Proof, RecordPage, Revision, Transaction,
        TransactionOutcome, Watch, WatchEvent,
    },
};
use std::{
    future::pending,
    mem::take,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::sleep;

/// A way in which a consensus store breaks its contract.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    ComparesTheRevisionAlone,
    ComparesNothing,
    CommitsInTwoParts,
    LeavesOutMembers,
    CallsAnUnknownOutcomeAConflict,
    CommitsAgain,
    ReadsStaleEpochs,
    ReadsTheNewestRecords,
    ReadsTheNewestAtRevisionZero,
    EndsPagesEarly,
    ContinuesAfterTheFirstByte,
    PrunesWithoutComparing,
    LimitsAuditEntriesByCount,
    ForgetsLastUses,
    MovesTheEpochWithLastUses,
    SkipsATransaction,
    DeliversTwice,
    SplitsTransactions,
    DeliversAuditEntries,
    LosesDroppedEvents,
    HidesCompaction,
    HidesAnOutage,
    SkipsAcknowledgements,
    JoinsAsFenced,
    ProvesWhenFenced,
    AcknowledgesWhenFenced,
    FencesTwice,
    FencesAFencedRow,
    ComparesInformationToFence,
    RemovesAtAnyRevision,
    RestartsImports,
    ContinuesAStaleImport,
    CreatesOverAnImport,
    HidesImportedValues,
    NeverEnds,
    AnswersWhileStopped,
}

const FAULTS: [Fault; 36] = [
    Fault::ComparesTheRevisionAlone,
    Fault::ComparesNothing,
    Fault::CommitsInTwoParts,
    Fault::LeavesOutMembers,
    Fault::CallsAnUnknownOutcomeAConflict,
    Fault::CommitsAgain,
    Fault::ReadsStaleEpochs,
    Fault::ReadsTheNewestRecords,
    Fault::ReadsTheNewestAtRevisionZero,
    Fault::EndsPagesEarly,
    Fault::ContinuesAfterTheFirstByte,
    Fault::PrunesWithoutComparing,
    Fault::LimitsAuditEntriesByCount,
    Fault::ForgetsLastUses,
    Fault::MovesTheEpochWithLastUses,
    Fault::SkipsATransaction,
    Fault::DeliversTwice,
    Fault::SplitsTransactions,
    Fault::DeliversAuditEntries,
    Fault::LosesDroppedEvents,
    Fault::HidesCompaction,
    Fault::HidesAnOutage,
    Fault::SkipsAcknowledgements,
    Fault::JoinsAsFenced,
    Fault::ProvesWhenFenced,
    Fault::AcknowledgesWhenFenced,
    Fault::FencesTwice,
    Fault::FencesAFencedRow,
    Fault::ComparesInformationToFence,
    Fault::RemovesAtAnyRevision,
    Fault::RestartsImports,
    Fault::ContinuesAStaleImport,
    Fault::CreatesOverAnImport,
    Fault::HidesImportedValues,
    Fault::NeverEnds,
    Fault::AnswersWhileStopped,
];

/// Creates consensus stores in memory, with an optional fault.
struct Simulated {
    memory: Arc<Memory>,
    is_down: Arc<Mutex<bool>>,
    fault: Option<Fault>,
}

impl Fixture for Simulated {
    type Store = Faulty;

    async fn create(&mut self) -> Faulty {
        self.memory = Memory::new();
        self.connect().await
    }

    async fn connect(&mut self) -> Faulty {
        let is_down = Arc::clone(&self.is_down);
        let link = Link::new(Arc::clone(&self.memory), Rng::new(7), is_down);
        Faulty {
            link,
            fault: self.fault,
            stale: Mutex::default(),
            page_ends: Mutex::default(),
            import: Mutex::default(),
        }
    }

    async fn compact(&mut self) {
        self.memory.compact();
    }

    async fn stop(&mut self) {
        *self.is_down.lock().unwrap() = true;
    }

    async fn start(&mut self) {
        *self.is_down.lock().unwrap() = false;
    }
}

fn check(fault: Option<Fault>) -> Result<(), Violation> {
    let (memory, is_down) = (Memory::new(), Arc::default());
    simulated(async { conformance::check(&mut Simulated { memory, is_down, fault }).await })
}

#[test]
fn simulated_consensus_store_passes_the_suite() {
    check(None).unwrap();
}

#[test]
fn faulty_consensus_stores_fail_the_suite() {
    let unnoticed = FAULTS.into_iter().filter(|fault| {
        let found = check(Some(*fault));
        eprintln!("{fault:?}: {found:?}");
        found.is_ok()
    });
    assert_eq!(unnoticed.collect::<Vec<_>>(), []);
}

/// A consensus store with a fault.
struct Faulty {
    link: Link,
    fault: Option<Fault>,
    /// The result of an earlier read.
    stale: Mutex<Option<Latest>>,
    /// The last digests of the pages that were read.
    page_ends: Mutex<Vec<[u8; 32]>>,
    /// The newest progress of an import.
    import: Mutex<Option<ImportProgress>>,
}

impl Faulty {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// Returns the row of a fenced member that a fault takes for one that is not fenced: whatever revision is
    /// given, or only with the revision of the fenced row.
    async fn taken_for_joined(
        &self,
        fault: Fault,
        id: MemberId,
        joined: Revision,
    ) -> Result<Option<MemberRow>, ConsensusError> {
        if !self.has(fault) && !self.has(Fault::JoinsAsFenced) {
            return Ok(None);
        }
        let members = self.link.members().await?.members.into_iter();
        let mut fenced = members.filter(|member| member.id == id && member.is_fenced);
        Ok(fenced.find(|member| self.has(fault) || member.revision == joined))
    }
}

impl ConsensusStore for Faulty {
    type Watch = FaultyWatch;
    type MemberWatch = FaultyMemberWatch;

    async fn latest(&self) -> Result<Latest, ConsensusError> {
        let latest = self.link.latest().await;
        if self.has(Fault::AnswersWhileStopped) && latest.is_err() {
            return self.stale.lock().unwrap().clone().ok_or(ConsensusError::Compacted);
        }
        if self.has(Fault::NeverEnds) && latest.is_err() {
            return pending().await;
        }
        let latest = latest?;
        let stale = self.stale.lock().unwrap().replace(latest.clone());
        Ok(stale.filter(|_| self.has(Fault::ReadsStaleEpochs)).unwrap_or(latest))
    }

    async fn scope_names(&self, at: Revision) -> Result<Vec<Vec<u8>>, ConsensusError> {
        self.link.scope_names(at).await
    }

    async fn records(
        &self,
        mut at: Revision,
        mut after: Option<[u8; 32]>,
    ) -> Result<RecordPage, ConsensusError> {
        if self.has(Fault::ReadsTheNewestRecords)
            || self.has(Fault::ReadsTheNewestAtRevisionZero) && at == Revision(0)
        {
            at = self.link.latest().await?.revision;
        }
        let is_inner = |after: &[u8; 32]| !self.page_ends.lock().unwrap().contains(after);
        if self.has(Fault::ContinuesAfterTheFirstByte)
            && let Some([_, rest @ ..]) = after.as_mut().filter(|after| is_inner(after))
        {
            rest.fill(0xff);
        }
        let mut page = self.link.records(at, after).await?;
        if self.has(Fault::EndsPagesEarly) && after.is_some() {
            page.is_last = true;
        }
        self.page_ends.lock().unwrap().extend(page.records.last().map(|(digest, _)| *digest));
        Ok(page)
    }

    async fn audit_start(&self, at: Revision) -> Result<Option<Vec<u8>>, ConsensusError> {
        self.link.audit_start(at).await
    }

    async fn audit_entries(
        &self,
        at: Revision,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, ConsensusError> {
        if self.has(Fault::LimitsAuditEntriesByCount) {
            let mut all = self.link.audit_entries(at, after, usize::MAX).await?;
            all.truncate(limit);
            return Ok(all);
        }
        self.link.audit_entries(at, after, limit).await
    }

    async fn prune_audit(&self, through: u64, audit_start: &[u8]) -> Result<bool, ConsensusError> {
        if self.has(Fault::PrunesWithoutComparing) {
            let at = self.link.latest().await?.revision;
            let current = self.link.audit_start(at).await?.unwrap_or_default();
            return self.link.prune_audit(through, &current).await;
        }
        self.link.prune_audit(through, audit_start).await
    }

    async fn last_uses(&self, after: Revision) -> Result<LastUses, ConsensusError> {
        let mut found = self.link.last_uses(after).await?;
        if self.has(Fault::ForgetsLastUses) {
            found.uses.truncate(200);
        }
        Ok(found)
    }

    async fn last_uses_of(&self, ids: &[u64]) -> Result<Vec<(u64, Vec<u8>)>, ConsensusError> {
        self.link.last_uses_of(ids).await
    }

    async fn put_last_uses(&self, uses: Vec<(u64, Vec<u8>)>) -> Result<(), ConsensusError> {
        if self.has(Fault::MovesTheEpochWithLastUses) {
            let expected = self.link.latest().await?.epoch;
            let epoch = expected.clone().map(|epoch| epoch.value).unwrap_or_default();
            self.link.commit(Transaction { expected, writes: Vec::new(), epoch }).await;
        }
        self.link.put_last_uses(uses).await
    }

    fn watch(&self, after: Revision) -> FaultyWatch {
        let (link, fault) = (self.link.clone(), self.fault);
        FaultyWatch { watch: link.watch(after), link, fault, seen: 0, kept: Vec::new() }
    }

    async fn commit(&self, mut transaction: Transaction) -> TransactionOutcome {
        let current = self.link.latest().await.ok().and_then(|latest| latest.epoch);
        let is_expected = |current: &Epoch| {
            transaction.expected.as_ref().is_some_and(|e| e.revision == current.revision)
        };
        if self.has(Fault::ComparesNothing)
            || self.has(Fault::ComparesTheRevisionAlone)
                && current.as_ref().is_some_and(is_expected)
        {
            transaction.expected = current;
        }
        if self.has(Fault::CommitsInTwoParts) && transaction.writes.len() > 1 {
            let second = transaction.writes.split_off(1);
            let first = self.link.commit(transaction.clone()).await;
            let TransactionOutcome::Committed { revision, .. } = first else { return first };
            let expected = Some(Epoch { revision, value: transaction.epoch.clone() });
            let rest = Transaction { expected, writes: second, epoch: transaction.epoch };
            return self.link.commit(rest).await;
        }
        let outcome = self.link.commit(transaction.clone()).await;
        match outcome {
            TransactionOutcome::Committed { revision, .. } if self.has(Fault::LeavesOutMembers) => {
                TransactionOutcome::Committed { revision, members: Vec::new() }
            }
            TransactionOutcome::Unknown(_) if self.has(Fault::CallsAnUnknownOutcomeAConflict) => {
                TransactionOutcome::Conflict
            }
            TransactionOutcome::Refused(why) if self.has(Fault::CreatesOverAnImport) => {
                let progress = self.import.lock().unwrap().clone();
                let Some(progress) = progress else { return TransactionOutcome::Refused(why) };
                let revision = Revision(progress.revision.0 + 1);
                match self.link.finish_import(progress, &transaction.epoch).await {
                    Ok(()) => TransactionOutcome::Committed { revision, members: Vec::new() },
                    Err(_) => TransactionOutcome::Refused(why),
                }
            }
            TransactionOutcome::Conflict if self.has(Fault::CommitsAgain) => {
                let latest = self.link.latest().await;
                transaction.expected = latest.ok().and_then(|latest| latest.epoch);
                self.link.commit(transaction).await
            }
            outcome => outcome,
        }
    }

    async fn join(&self, id: MemberId, info: &[u8]) -> Result<Revision, ConsensusError> {
        let joined = self.link.join(id, info).await?;
        if self.has(Fault::JoinsAsFenced) {
            let members = self.link.members().await?.members;
            let found = members.into_iter().find(|member| member.id == id);
            return Ok(found.map_or(joined, |member| member.revision));
        }
        Ok(joined)
    }

    async fn prove(&self, id: MemberId, joined: Revision) -> Result<Option<Proof>, ConsensusError> {
        if let Some(member) = self.taken_for_joined(Fault::ProvesWhenFenced, id, joined).await? {
            let Latest { revision, epoch } = self.link.latest().await?;
            let applied = Some(member.applied);
            return Ok(epoch.map(|epoch| Proof { revision, epoch, applied }));
        }
        self.link.prove(id, joined).await
    }

    async fn acknowledge(
        &self,
        id: MemberId,
        joined: Revision,
        applied: Revision,
    ) -> Result<bool, ConsensusError> {
        let fenced = self.taken_for_joined(Fault::AcknowledgesWhenFenced, id, joined).await?;
        Ok(fenced.is_some() || self.link.acknowledge(id, joined, applied).await?)
    }

    async fn members(&self) -> Result<MemberList, ConsensusError> {
        self.link.members().await
    }

    fn watch_members(&self, after: Revision) -> FaultyMemberWatch {
        FaultyMemberWatch { watch: self.link.watch_members(after), fault: self.fault }
    }

    async fn fence(&self, member: &MemberRow) -> Result<Option<Revision>, ConsensusError> {
        if self.has(Fault::FencesAFencedRow) || self.has(Fault::ComparesInformationToFence) {
            let members = self.link.members().await?.members.into_iter();
            let mut rows = members.filter(|m| m.id == member.id && m.revision == member.revision);
            match rows.next() {
                Some(row) if row.is_fenced && self.has(Fault::FencesAFencedRow) => {
                    return Ok(Some(Revision(row.revision.0 + 1)));
                }
                Some(row)
                    if row.info != member.info && self.has(Fault::ComparesInformationToFence) =>
                {
                    return Ok(None);
                }
                _ => {}
            }
        }
        let fenced = self.link.fence(member).await?;
        Ok(fenced.or(Some(member.revision).filter(|_| self.has(Fault::FencesTwice))))
    }

    async fn remove_member(
        &self,
        id: MemberId,
        mut revision: Revision,
    ) -> Result<bool, ConsensusError> {
        if self.has(Fault::RemovesAtAnyRevision) {
            let members = self.link.members().await?.members;
            let found = members.into_iter().find(|member| member.id == id);
            revision = found.map_or(revision, |member| member.revision);
        }
        self.link.remove_member(id, revision).await
    }

    async fn begin_import(&self, source: &[u8]) -> Result<ImportProgress, ConsensusError> {
        if self.has(Fault::RestartsImports) {
            self.link.begin_import(b"nothing").await?;
        }
        let progress = self.link.begin_import(source).await?;
        self.import.lock().unwrap().replace(progress.clone());
        Ok(progress)
    }

    async fn import(
        &self,
        mut progress: ImportProgress,
        values: Vec<(Key, Vec<u8>)>,
    ) -> Result<ImportProgress, ConsensusError> {
        if self.has(Fault::ContinuesAStaleImport) {
            progress = self.link.begin_import(&progress.source).await?;
        }
        let progress = self.link.import(progress, values).await?;
        self.import.lock().unwrap().replace(progress.clone());
        Ok(progress)
    }

    async fn finish_import(
        &self,
        progress: ImportProgress,
        epoch: &[u8],
    ) -> Result<(), ConsensusError> {
        self.link.finish_import(progress, epoch).await
    }
}

struct FaultyWatch {
    watch: LinkWatch,
    link: Link,
    fault: Option<Fault>,
    /// Transactions that were delivered.
    seen: usize,
    kept: Vec<WatchEvent>,
}

impl Watch for FaultyWatch {
    async fn next(&mut self) -> WatchEvent {
        if let Some(event) = self.kept.pop() {
            return event;
        }
        let mut event = self.watch.next().await;
        match (&mut event, self.fault) {
            (WatchEvent::Lost, Some(Fault::HidesAnOutage)) => return pending().await,
            (WatchEvent::Compacted, Some(Fault::HidesCompaction)) => loop {
                if let Ok(latest) = self.link.latest().await {
                    self.watch = self.link.watch(latest.revision);
                    return WatchEvent::Committed(Vec::new());
                }
            },
            (_, Some(Fault::LosesDroppedEvents)) => sleep(Duration::from_millis(2)).await,
            (WatchEvent::Committed(transactions), fault) => {
                let before = self.seen;
                self.seen += transactions.len();
                match fault {
                    Some(Fault::SkipsATransaction) if before < 5 && self.seen >= 5 => {
                        transactions.pop();
                    }
                    Some(Fault::HidesImportedValues) => {
                        transactions.retain(|committed| committed.epoch.is_some());
                    }
                    Some(Fault::DeliversTwice) => self.kept.push(event.clone()),
                    Some(Fault::SplitsTransactions) => {
                        let mut second = transactions.clone();
                        for (first, second) in transactions.iter_mut().zip(&mut second) {
                            second.writes.drain(..1);
                            first.writes.truncate(1);
                        }
                        self.kept.push(WatchEvent::Committed(second));
                    }
                    Some(Fault::DeliversAuditEntries) => {
                        for committed in transactions {
                            let mut writes = take(&mut committed.writes);
                            writes.extend(writes.first().cloned().map(|mut write| {
                                write.key = Key::AuditEntry(1);
                                write
                            }));
                            committed.writes = writes;
                        }
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        event
    }
}

struct FaultyMemberWatch {
    watch: LinkMemberWatch,
    fault: Option<Fault>,
}

impl MemberWatch for FaultyMemberWatch {
    async fn next(&mut self) -> Option<Vec<MemberEvent>> {
        let mut events = self.watch.next().await?;
        if self.fault == Some(Fault::SkipsAcknowledgements) {
            events.retain(|event| !matches!(event, MemberEvent::Applied(_, Revision(4))));
        }
        Some(events)
    }
}
