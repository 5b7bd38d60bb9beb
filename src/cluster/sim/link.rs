//! The link between one replica and the consensus store, with delay and with loss in either direction.

use super::{Rng, memory::Memory};
use crate::cluster::consensus::{
    ConsensusError, ConsensusStore, ImportProgress, Key, LastUses, Latest, MemberEvent, MemberId,
    MemberList, MemberRow, MemberWatch, Proof, RecordPage, Revision, Transaction,
    TransactionOutcome, Watch, WatchEvent,
};
use std::{
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::futures::Notified,
    time::{sleep, timeout},
};

/// The timeout of a call whose request or answer is lost.
const CALL_TIMEOUT: Duration = Duration::from_millis(600);
/// The timeout of a call in real time, on a host that may be busy.
const REAL_CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a join is sent if no answer comes.
const JOIN_ATTEMPTS: usize = 3;

/// The conditions on a link.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "the faults are independent of one another")]
pub(crate) struct Conditions {
    /// Requests are lost.
    pub(crate) no_requests: bool,
    /// Answers and events of watches are lost.
    pub(crate) no_answers: bool,
    /// Watches deliver nothing, but calls succeed.
    pub(crate) no_watch: bool,
    /// A read of all records fails after its first page.
    pub(crate) first_page_only: bool,
    /// The longest delay each way, in milliseconds.
    pub(crate) delay: u64,
}

/// One replica's link.
#[derive(Clone)]
pub(crate) struct Link {
    memory: Arc<Memory>,
    rng: Rng,
    conditions: Arc<Mutex<Conditions>>,
    /// The consensus store answers no call.
    is_down: Arc<Mutex<bool>>,
    /// The timeout of a call.
    call_timeout: Duration,
    /// Whether a transaction whose request is lost may be committed after its timeout.
    commits_late: bool,
}

impl Link {
    pub(crate) fn new(memory: Arc<Memory>, rng: Rng, is_down: Arc<Mutex<bool>>) -> Self {
        let conditions = Conditions { delay: 12, ..Conditions::default() };
        let conditions = Arc::new(Mutex::new(conditions));
        Self { memory, rng, conditions, is_down, call_timeout: CALL_TIMEOUT, commits_late: true }
    }

    /// Uses real time: longer timeouts, since the host may be busy, and no late commits, since a test could
    /// not know when they happen.
    pub(crate) fn in_real_time(self) -> Self {
        Self { call_timeout: REAL_CALL_TIMEOUT, commits_late: false, ..self }
    }

    pub(crate) fn conditions(&self) -> Conditions {
        *self.conditions.lock().unwrap()
    }

    pub(crate) fn set(&self, conditions: Conditions) {
        *self.conditions.lock().unwrap() = conditions;
    }

    fn is_down(&self) -> bool {
        *self.is_down.lock().unwrap() || self.memory.is_away.load(Relaxed)
    }

    async fn delay(&self) {
        let delay = self.rng.below(self.conditions().delay + 1);
        sleep(Duration::from_millis(delay)).await;
    }

    /// Makes a call. Its request may be lost, or its answer after it took effect.
    async fn call<T>(&self, work: impl FnOnce(&Memory) -> T + Send) -> Result<T, ConsensusError> {
        let answer = timeout(self.call_timeout, async {
            self.delay().await;
            if self.conditions().no_requests || self.is_down() {
                sleep(CALL_TIMEOUT).await;
                return None;
            }
            let answer = work(&self.memory);
            self.delay().await;
            if self.conditions().no_answers {
                sleep(CALL_TIMEOUT).await;
                return None;
            }
            Some(answer)
        });
        answer.await.ok().flatten().ok_or_else(no_answer)
    }

    /// Waits until something may have changed, at most 200 ms; `false` if the link is cut.
    async fn wait(&self, changed: Notified<'_>) -> bool {
        let _ = timeout(Duration::from_millis(200), changed).await;
        let conditions = self.conditions();
        !(conditions.no_answers || conditions.no_requests || self.is_down())
    }
}

fn no_answer() -> ConsensusError {
    ConsensusError::Unavailable("no answer came".into())
}

impl ConsensusStore for Link {
    type Watch = LinkWatch;
    type MemberWatch = LinkMemberWatch;

    async fn latest(&self) -> Result<Latest, ConsensusError> {
        self.call(Memory::latest).await
    }

    async fn scope_names(&self, at: Revision) -> Result<Vec<Vec<u8>>, ConsensusError> {
        self.call(|memory| memory.scope_names(at)).await?
    }

    async fn records(
        &self,
        at: Revision,
        after: Option<[u8; 32]>,
    ) -> Result<RecordPage, ConsensusError> {
        if self.conditions().first_page_only && after.is_some() {
            self.delay().await;
            return Err(no_answer());
        }
        self.call(|memory| memory.page(at, after)).await?
    }

    async fn audit_start(&self, at: Revision) -> Result<Option<Vec<u8>>, ConsensusError> {
        self.call(|memory| memory.audit_start(at)).await?
    }

    async fn audit_entries(
        &self,
        at: Revision,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, ConsensusError> {
        self.call(|memory| memory.audit_entries(at, after, limit)).await?
    }

    async fn prune_audit(&self, through: u64, audit_start: &[u8]) -> Result<bool, ConsensusError> {
        self.call(|memory| memory.prune_audit(through, audit_start)).await
    }

    async fn last_uses(&self, after: Revision) -> Result<LastUses, ConsensusError> {
        self.call(|memory| memory.last_uses(after)).await
    }

    async fn last_uses_of(&self, ids: &[u64]) -> Result<Vec<(u64, Vec<u8>)>, ConsensusError> {
        let mut uses = self.last_uses(Revision(0)).await?.uses;
        uses.retain(|(id, _)| ids.contains(id));
        Ok(uses)
    }

    async fn put_last_uses(&self, uses: Vec<(u64, Vec<u8>)>) -> Result<(), ConsensusError> {
        self.call(|memory| memory.put_last_uses(uses)).await
    }

    fn watch(&self, after: Revision) -> LinkWatch {
        LinkWatch { link: self.clone(), after }
    }

    async fn commit(&self, transaction: Transaction) -> TransactionOutcome {
        if self.commits_late && self.conditions().no_requests && self.rng.one_in(2) {
            // A frozen node has received the request, and executes it after the caller's timeout.
            let (memory, delay) = (Arc::clone(&self.memory), self.rng.below(3000));
            drop(tokio::spawn(async move {
                sleep(CALL_TIMEOUT + Duration::from_millis(delay)).await;
                if !memory.is_away.load(Relaxed) {
                    memory.commit(&transaction);
                }
            }));
            sleep(CALL_TIMEOUT).await;
            return TransactionOutcome::Unknown("no answer came".into());
        }
        let outcome = self.call(|memory| memory.commit(&transaction)).await;
        outcome.unwrap_or_else(|_| TransactionOutcome::Unknown("no answer came".into()))
    }

    async fn join(&self, id: MemberId, info: &[u8]) -> Result<Revision, ConsensusError> {
        // A store repeats it within one call. The first attempt may have succeeded long before.
        for _ in 1..JOIN_ATTEMPTS {
            if let Ok(joined) = self.call(|memory| memory.join(id, info)).await {
                return Ok(joined);
            }
        }
        self.call(|memory| memory.join(id, info)).await
    }

    async fn prove(&self, id: MemberId, joined: Revision) -> Result<Option<Proof>, ConsensusError> {
        self.call(|memory| memory.prove(id, joined)).await
    }

    async fn acknowledge(
        &self,
        id: MemberId,
        joined: Revision,
        applied: Revision,
    ) -> Result<bool, ConsensusError> {
        self.call(|memory| memory.acknowledge(id, joined, applied)).await
    }

    async fn members(&self) -> Result<MemberList, ConsensusError> {
        self.call(Memory::members).await
    }

    fn watch_members(&self, after: Revision) -> LinkMemberWatch {
        LinkMemberWatch { link: self.clone(), seen: self.memory.member_events_until(after) }
    }

    async fn fence(&self, member: &MemberRow) -> Result<Option<Revision>, ConsensusError> {
        self.call(|memory| memory.fence(member)).await
    }

    async fn remove_member(
        &self,
        id: MemberId,
        revision: Revision,
    ) -> Result<bool, ConsensusError> {
        self.call(|memory| memory.remove_member(id, revision)).await
    }

    async fn begin_import(&self, source: &[u8]) -> Result<ImportProgress, ConsensusError> {
        self.call(|memory| memory.begin_import(source)).await?
    }

    async fn import(
        &self,
        progress: ImportProgress,
        values: Vec<(Key, Vec<u8>)>,
    ) -> Result<ImportProgress, ConsensusError> {
        self.call(|memory| memory.import(progress, values)).await?
    }

    async fn finish_import(
        &self,
        progress: ImportProgress,
        epoch: &[u8],
    ) -> Result<(), ConsensusError> {
        self.call(|memory| memory.finish_import(&progress, epoch)).await?
    }
}

/// A watch over a link.
pub(crate) struct LinkWatch {
    link: Link,
    after: Revision,
}

impl Watch for LinkWatch {
    async fn next(&mut self) -> WatchEvent {
        loop {
            // Other threads change the store as well: a change after the read ends the wait, and
            // nothing is delivered once the link is cut.
            let changed = self.link.memory.changed.notified();
            let event = self.link.memory.transactions_after(self.after);
            let conditions = self.link.conditions();
            if conditions.no_answers || conditions.no_requests || self.link.is_down() {
                if self.link.rng.one_in(4) {
                    return WatchEvent::Lost;
                }
            } else if let Some(event) = event.filter(|_| !conditions.no_watch) {
                // Changes during the delay are delivered next.
                self.link.delay().await;
                if self.link.conditions().no_answers {
                    return WatchEvent::Lost;
                }
                if let WatchEvent::Committed(transactions) = &event
                    && let Some(last) = transactions.last()
                {
                    self.after = last.revision;
                }
                return event;
            }
            self.link.wait(changed).await;
        }
    }
}

/// A watch over members over a link.
pub(crate) struct LinkMemberWatch {
    link: Link,
    seen: usize,
}

impl MemberWatch for LinkMemberWatch {
    async fn next(&mut self) -> Option<Vec<MemberEvent>> {
        loop {
            let changed = self.link.memory.changed.notified();
            let (seen, events) = self.link.memory.member_events_after(self.seen);
            if !events.is_empty() && !self.link.conditions().no_watch {
                self.link.delay().await;
                self.seen = seen;
                return Some(events);
            }
            if !self.link.wait(changed).await && self.link.rng.one_in(4) {
                return None;
            }
        }
    }
}
