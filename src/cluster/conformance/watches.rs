//! Watches over transactions: order, completeness, timeliness, cancellation, compaction.

use super::{
    fixture::{Fixture, Violation, answer, require, soon, violation},
    writer::{Writer, delete, put, record},
};
use crate::cluster::{
    Committed, ConsensusStore, Key, MemberId, Revision, Watch, WatchEvent, Write,
};
use std::time::Duration;
use tokio::time::timeout;

const ORDER: &str = "10 order and completeness";
const TIMELY: &str = "11 timeliness";
const COMPACTED: &str = "12 compaction";
const CANCELLED: &str = "18 cancellation";

/// How often a watch may be lost on a busy host.
const MAX_LOST: usize = 10;

pub(super) async fn check<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    delivers_what_replicas_follow(fixture).await?;
    survives_dropped_waits(fixture).await?;
    reports_compaction(fixture).await
}

/// A watch that continues with a new one where it is lost, as replicas do.
pub(super) struct Follower<'s, S: ConsensusStore> {
    store: &'s S,
    watch: S::Watch,
    after: Revision,
    lost: usize,
}

impl<'s, S: ConsensusStore> Follower<'s, S> {
    pub(super) fn after(store: &'s S, after: Revision) -> Self {
        Self { store, watch: store.watch(after), after, lost: 0 }
    }

    /// The next transactions. Every wait is dropped and repeated if `is_impatient`.
    async fn next(&mut self, is_impatient: bool) -> Result<Vec<Committed>, Violation> {
        loop {
            let event = if is_impatient {
                let repeated = async {
                    loop {
                        if let Ok(event) =
                            timeout(Duration::from_millis(3), self.watch.next()).await
                        {
                            return event;
                        }
                    }
                };
                soon(TIMELY, "an event of a watch", repeated).await?
            } else {
                soon(TIMELY, "an event of a watch", self.watch.next()).await?
            };
            match event {
                WatchEvent::Committed(transactions) => {
                    require(!transactions.is_empty(), ORDER, || "an event is empty".into())?;
                    for committed in &transactions {
                        require(committed.revision > self.after, ORDER, || {
                            format!("{:?} after {:?}", committed.revision, self.after)
                        })?;
                        self.after = committed.revision;
                    }
                    return Ok(transactions);
                }
                WatchEvent::Lost if self.lost < MAX_LOST => {
                    self.lost += 1;
                    self.watch = self.store.watch(self.after);
                }
                WatchEvent::Lost => return violation(TIMELY, "watches are lost again and again"),
                WatchEvent::Compacted => {
                    return violation(
                        COMPACTED,
                        "a watch reports a compaction that did not happen",
                    );
                }
            }
        }
    }

    /// All transactions up to this revision.
    pub(super) async fn until(
        &mut self,
        revision: Revision,
        is_impatient: bool,
    ) -> Result<Vec<Committed>, Violation> {
        let mut all = Vec::new();
        while self.after < revision {
            all.extend(self.next(is_impatient).await?);
        }
        Ok(all)
    }
}

async fn delivers_what_replicas_follow<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    let mut writer = Writer::create(fixture.create().await).await?;
    let other = fixture.connect().await;
    let start = writer.epoch.as_ref().map_or(Revision(0), |epoch| epoch.revision);
    let mut live = Follower::after(&other, start);
    let mut expected = Vec::new();
    for number in 0..12 {
        let mut changes = vec![
            put(record(number), format!("record {number}")),
            put(record(number + 1), "replaced later"),
        ];
        match number {
            3 => changes.push(put(Key::ScopeName(0), "name")),
            4 => changes.push(put(Key::AuditStart, "start")),
            5.. => changes.push(delete(record(number - 5))),
            _ => {}
        }
        let followed = changes.clone();
        // A last use in the same transaction, and writes of other kinds in between.
        changes.push(put(Key::LastUse(number), "use"));
        let revision = writer.write(changes).await?;
        let epoch = writer.epoch.as_ref().map(|epoch| epoch.value.clone());
        expected.push(Committed { revision, epoch, writes: followed });
        answer(|| writer.store.put_last_uses(vec![(number, b"later".to_vec())])).await?;
        let id = MemberId([u8::try_from(number).unwrap_or_default(); 16]);
        let joined = answer(|| writer.store.join(id, b"member")).await?;
        answer(|| writer.store.acknowledge(id, joined, revision)).await?;
        if number % 4 == 0 {
            // Waits for each transaction as it is written, and for several at once.
            let seen = live.until(revision, false).await?;
            same(&seen, expected.get(expected.len() - seen.len()..).unwrap_or_default())?;
        }
    }
    let last = expected.last().map_or(start, |committed| committed.revision);
    live.until(last, false).await?;
    for (first, after) in [(0, start), (6, expected.get(5).map_or(start, |c| c.revision))] {
        let seen = Follower::after(&writer.store, after).until(last, false).await?;
        same(&seen, expected.get(first..).unwrap_or_default())?;
    }
    Ok(())
}

pub(super) fn same(seen: &[Committed], expected: &[Committed]) -> Result<(), Violation> {
    let sorted = |committed: &Committed| {
        let mut writes = committed.writes.clone();
        writes.sort_by_key(|Write { key, .. }| *key);
        Committed { writes, ..committed.clone() }
    };
    let (seen, expected): (Vec<_>, Vec<_>) =
        (seen.iter().map(sorted).collect(), expected.iter().map(sorted).collect());
    require(seen == expected, ORDER, || format!("delivered {seen:?} instead of {expected:?}"))
}

async fn survives_dropped_waits<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    const CHANGES: usize = 30;
    let mut writer = Writer::create(fixture.create().await).await?;
    let other = fixture.connect().await;
    let start = writer.epoch.as_ref().map_or(Revision(0), |epoch| epoch.revision);
    let mut watch = Follower::after(&other, start);
    let mut seen = Vec::new();
    for number in 0..CHANGES {
        let revision = writer.write(vec![put(record(number as u64), "x")]).await?;
        if number % 3 == 0 {
            seen.extend(watch.until(revision, true).await?);
        }
    }
    let last = writer.epoch.as_ref().map_or(start, |epoch| epoch.revision);
    seen.extend(watch.until(last, true).await?);
    require(seen.len() == CHANGES, CANCELLED, || format!("{} of {CHANGES} came", seen.len()))
}

async fn reports_compaction<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    let mut writer = Writer::create(fixture.create().await).await?;
    let old = writer.write(vec![put(record(0), "old")]).await?;
    writer.write(vec![put(record(0), "lost")]).await?;
    let last = writer.write(vec![put(record(0), "lost as well")]).await?;
    fixture.compact().await;
    for _ in 0..MAX_LOST {
        let mut watch = writer.store.watch(old);
        match soon(COMPACTED, "an event of a watch", watch.next()).await? {
            WatchEvent::Compacted => {
                // Later transactions are still delivered.
                let epoch = writer.epoch.clone();
                let mut writer = Writer { store: fixture.connect().await, epoch, sequence: 3 };
                let next = writer.write(vec![put(record(1), "new")]).await?;
                let seen = Follower::after(&writer.store, last).until(next, false).await?;
                return require(seen.len() == 1, COMPACTED, || format!("afterwards: {seen:?}"));
            }
            WatchEvent::Lost => {}
            WatchEvent::Committed(seen) => {
                return violation(COMPACTED, format!("a gap is not reported: {seen:?}"));
            }
        }
    }
    violation(TIMELY, "watches are lost again and again")
}
