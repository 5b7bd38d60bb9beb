//! Transactions: revisions, linearizability, atomicity, compare and set, limits.

use super::{
    fixture::{Fixture, Violation, answer, require, soon, violation},
    writer::{Writer, delete, put, record},
};
use crate::cluster::{
    ConsensusStore, Epoch, Key, Revision, Transaction, TransactionOutcome, Write,
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};
use tokio::task::JoinSet;

const REVISIONS: &str = "1 revisions";
const LINEARIZABLE: &str = "2 linearizability";
const ATOMIC: &str = "5 atomicity";
const COMPARE: &str = "6 compare and set";
const SIZE: &str = "8 size";

pub(super) async fn check<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    compare_and_set(fixture).await?;
    writes_are_visible_to_other_clients(fixture).await?;
    concurrent_clients(fixture).await?;
    limits(fixture).await
}

async fn compare_and_set<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    let store = fixture.create().await;
    let empty = answer(|| store.latest()).await?;
    require(empty.epoch.is_none(), COMPARE, || format!("an empty store has {empty:?}"))?;
    require(empty.revision > Revision(0), REVISIONS, || format!("an empty store is at {empty:?}"))?;
    let invented = Epoch { revision: Revision(1), value: b"invented".to_vec() };
    conflicts(&store, Some(invented), "an epoch that does not exist").await?;
    let mut writer = Writer::create(store).await?;
    let first = writer.write(vec![put(record(0), "first")]).await?;
    let second = writer.write(vec![put(record(0), "second")]).await?;
    require(second > first && first > Revision(0), REVISIONS, || format!("{first:?}, {second:?}"))?;
    let (store, current) = (&writer.store, writer.epoch.clone());
    conflicts(store, None, "no epoch, where there is one").await?;
    let of = |revision, value: &[u8]| Some(Epoch { revision, value: value.to_vec() });
    conflicts(store, of(first, b"epoch 1"), "an earlier epoch").await?;
    conflicts(store, of(first, b"epoch 2"), "the value at another revision").await?;
    conflicts(store, of(second, b"epoch 1"), "the revision with another value").await?;
    let later = Revision(second.0 + 1);
    conflicts(store, of(later, b"epoch 2"), "a later revision").await?;
    let latest = answer(|| store.latest()).await?;
    require(latest.epoch == current, COMPARE, || format!("conflicts changed {latest:?}"))?;
    let page = answer(|| store.records(latest.revision, None)).await?;
    let values: Vec<_> = page.records.iter().map(|(_, value)| value.as_slice()).collect();
    require(values == [b"second"], ATOMIC, || format!("conflicts wrote {page:?}"))
}

async fn conflicts<S: ConsensusStore>(
    store: &S,
    expected: Option<Epoch>,
    what: &str,
) -> Result<(), Violation> {
    let writes = vec![put(record(7), "conflict"), put(Key::AuditEntry(99), "conflict")];
    let transaction = Transaction { expected, writes, epoch: b"conflict".to_vec() };
    loop {
        let commit = store.commit(transaction.clone());
        match soon("17 timeouts", "the outcome of a transaction", commit).await? {
            TransactionOutcome::Conflict => return Ok(()),
            TransactionOutcome::Unknown(_) => {}
            other => return violation(COMPARE, format!("{what} was expected: {other:?}")),
        }
    }
}

/// A write that has returned is visible to every later read of any client.
async fn writes_are_visible_to_other_clients<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    let mut writer = Writer::create(fixture.create().await).await?;
    let other = fixture.connect().await;
    let mut newest = Revision(0);
    for number in 0..20 {
        let mut changes = vec![put(record(number), format!("record {number}"))];
        if number > 2 {
            changes.push(delete(record(number - 2)));
        }
        let revision = writer.write(changes).await?;
        require(revision > newest, REVISIONS, || format!("{revision:?} after {newest:?}"))?;
        newest = revision;
        let latest = answer(|| other.latest()).await?;
        require(latest.epoch == writer.epoch && latest.revision >= revision, LINEARIZABLE, || {
            format!("another client reads {latest:?} after {:?}", writer.epoch)
        })?;
        let list = answer(|| other.members()).await?;
        require(list.epoch == Some(revision) && list.revision >= revision, LINEARIZABLE, || {
            format!("the members are read at {:?} after {revision:?}", list.revision)
        })?;
        // A read sees all writes of the transaction or none.
        let exists = async |at| -> Result<_, Violation> {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = answer(|| other.records(at, after)).await?;
                after = page.records.last().map(|(digest, _)| *digest).or(after);
                found.extend(page.records.into_iter().map(|(digest, _)| Key::Record(digest)));
                if page.is_last {
                    return Ok((
                        found.contains(&record(number)),
                        found.contains(&record(number - 2)),
                    ));
                }
            }
        };
        if number > 2 {
            let (before, after) =
                (exists(Revision(revision.0 - 1)).await?, exists(revision).await?);
            require(before == (false, true) && after == (true, false), ATOMIC, || {
                format!("a transaction put one record and deleted another: {before:?}, {after:?}")
            })?;
        }
    }
    Ok(())
}

/// Clients write at the same time. One of them writes each epoch, and a read is never older than a write
/// that returned before the read began.
async fn concurrent_clients<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    const CLIENTS: u64 = 4;
    const CHANGES: u64 = 12;
    let first = Writer::create(fixture.create().await).await?;
    let start = answer(|| first.store.latest()).await?.revision;
    let newest = Arc::new(AtomicU64::new(start.0));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (store, newest) = (fixture.connect().await, Arc::clone(&newest));
        clients.spawn(async move { append(&store, &newest, client * 1000, CHANGES).await });
    }
    let mut committed = 0;
    while let Some(done) = clients.join_next().await {
        match done {
            Ok(done) => committed += done?,
            Err(error) => return violation(LINEARIZABLE, format!("a client panicked: {error}")),
        }
    }
    let latest = answer(|| first.store.latest()).await?;
    let entries =
        answer(|| first.store.audit_entries(latest.revision, 0, 10_000)).await?.len() as u64;
    require(entries == committed && committed == CLIENTS * CHANGES, COMPARE, || {
        format!("{committed} transactions were committed and left {entries} audit entries")
    })
}

/// Adds changes, each on the newest epoch; returns how many.
async fn append<S: ConsensusStore>(
    store: &S,
    newest: &AtomicU64,
    mut own: u64,
    changes: u64,
) -> Result<u64, Violation> {
    let mut done = 0;
    while done < changes {
        let known = newest.load(SeqCst);
        let latest = answer(|| store.latest()).await?;
        require(latest.revision.0 >= known, LINEARIZABLE, || {
            format!("read {:?} after a write at {known} had returned", latest.revision)
        })?;
        // A different entry for each attempt, so that lost updates are detected.
        own += 1;
        let text = format!("attempt {own}").into_bytes();
        let writes = vec![Write { key: Key::AuditEntry(own), value: Some(text.clone()) }];
        let transaction = Transaction { expected: latest.epoch, writes, epoch: text.clone() };
        let commit = store.commit(transaction);
        match soon("17 timeouts", "the outcome of a transaction", commit).await? {
            TransactionOutcome::Committed { revision, .. } => {
                newest.fetch_max(revision.0, SeqCst);
                done += 1;
            }
            TransactionOutcome::Conflict => {}
            TransactionOutcome::Unknown(_) => {
                let at = answer(|| store.latest()).await?.revision;
                let found = answer(|| store.audit_entries(at, own - 1, 1)).await?;
                done += found.len() as u64;
            }
            TransactionOutcome::Refused(reason) => {
                return violation(SIZE, format!("a small transaction was refused: {reason}"));
            }
        }
    }
    Ok(done)
}

async fn limits<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    let mut writer = Writer::create(fixture.create().await).await?;
    let most = Transaction::MAX_WRITES as u64 - 1;
    let size = Transaction::MAX_BYTES / Transaction::MAX_WRITES - Transaction::WRITE_OVERHEAD;
    let full = (0..most).map(|number| put(record(number), vec![7; size])).collect();
    let at = writer.write(full).await?;
    let (mut found, mut after) = (0, None);
    loop {
        let page = answer(|| writer.store.records(at, after)).await?;
        found += page.records.iter().filter(|(_, value)| value.len() == size).count() as u64;
        after = page.records.last().map(|(digest, _)| *digest).or(after);
        if page.is_last {
            break;
        }
    }
    require(found == most, SIZE, || format!("{found} of {most} records were written"))?;
    // Far above the limits: committed as a whole, or refused and never committed.
    let huge = (0..300).map(|number| put(record(number), vec![8; 100_000])).collect();
    let transaction = writer.change(huge);
    let commit = writer.store.commit(transaction.clone());
    let outcome = soon("17 timeouts", "the outcome of a transaction", commit).await?;
    let latest = answer(|| writer.store.latest()).await?;
    let is_done = latest.epoch.as_ref().is_some_and(|epoch| epoch.value == transaction.epoch);
    let fits = match outcome {
        TransactionOutcome::Committed { .. } => is_done,
        TransactionOutcome::Refused(_) | TransactionOutcome::Conflict => {
            latest.epoch == writer.epoch
        }
        TransactionOutcome::Unknown(_) => true,
    };
    require(fits, "9 unknown outcomes", || format!("{outcome:?}, then {latest:?}"))
}
