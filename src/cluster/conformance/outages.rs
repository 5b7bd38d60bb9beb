//! Nodes that hang and crash: timeouts, unknown outcomes, lost watches, durability, runtimes.

use super::{
    fixture::{Fixture, Violation, answer, require, soon, violation},
    watches::Follower,
    writer::{Writer, put, record},
};
use crate::cluster::{
    ConsensusError, ConsensusStore, MemberId, MemberRow, MemberWatch, Revision, Transaction,
    TransactionOutcome, Watch, WatchEvent,
};
use std::{future::Future, thread, time::Duration};
use tokio::time::timeout;

const DURABLE: &str = "4 durability";
const UNKNOWN: &str = "9 unknown outcomes";
const TIMELY: &str = "11 timeliness";
const TIMEOUT: &str = "17 timeouts";
const CANCELLED: &str = "18 cancellation";
const RUNTIME: &str = "19 runtime";

/// The longest call, with some time for a busy host.
const LONGEST_CALL: Duration = Duration::from_secs(25);

const ID: MemberId = MemberId([3; 16]);

pub(super) async fn check<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    hanging_nodes(fixture).await?;
    dropped_writes(fixture).await?;
    another_runtime(fixture).await
}

async fn hanging_nodes<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    let mut writer = Writer::create(fixture.create().await).await?;
    let store = &writer.store;
    let joined = answer(|| store.join(ID, b"member")).await?;
    answer(|| store.acknowledge(ID, joined, Revision(1))).await?;
    writer.write(vec![put(record(0), "before")]).await?;
    let store = &writer.store;
    let at = answer(|| store.latest()).await?.revision;
    let (mut watch, mut member_watch) = (store.watch(at), store.watch_members(at));
    // Both wait for an event that does not come, so they are connected.
    if let Ok(WatchEvent::Lost) = timeout(Duration::from_secs(1), watch.next()).await {
        watch = store.watch(at);
    }
    let mut member_watch_ended = false;
    if let Ok(None) = timeout(Duration::from_secs(1), member_watch.next()).await {
        member_watch_ended = true;
    }

    fixture.stop().await;
    match soon(TIMELY, "the loss of a watch", watch.next()).await? {
        WatchEvent::Lost => {}
        event => return violation(TIMELY, format!("nobody wrote anything: {event:?}")),
    }
    if !member_watch_ended {
        let events = soon(TIMELY, "the loss of a member watch", member_watch.next()).await?;
        require(events.is_none(), TIMELY, || format!("nothing happened to members: {events:?}"))?;
    }
    let (is_fenced, applied) = (false, Revision(1));
    let member =
        MemberRow { id: ID, info: b"member".to_vec(), revision: joined, is_fenced, applied };
    unavailable("latest", store.latest()).await?;
    unavailable("records", store.records(at, None)).await?;
    unavailable("prove", store.prove(ID, joined)).await?;
    unavailable("acknowledge", store.acknowledge(ID, joined, Revision(2))).await?;
    unavailable("members", store.members()).await?;
    unavailable("fence", store.fence(&member)).await?;
    unavailable("put_last_uses", store.put_last_uses(vec![(1, b"use".to_vec())])).await?;
    let transaction = writer.change(vec![put(record(0), "during")]);
    let outcome = ends("commit", store.commit(transaction.clone())).await?;
    let is_unknown = matches!(outcome, TransactionOutcome::Unknown(_));
    require(is_unknown, UNKNOWN, || format!("no node answered, and a transaction is {outcome:?}"))?;

    fixture.start().await;
    let latest = answer(|| store.latest()).await?;
    let before = writer.epoch.clone();
    let is_known = latest.epoch == before
        || latest.epoch.as_ref().is_some_and(|epoch| epoch.value == transaction.epoch);
    require(is_known, DURABLE, || format!("{:?} is there instead of {before:?}", latest.epoch))?;
    decided_once(&mut writer, &transaction).await?;
    let row = answer(|| writer.store.members()).await?.members.into_iter().find(|m| m.id == ID);
    require(row.is_some_and(|row| row.applied >= Revision(1)), DURABLE, || {
        "a member or its acknowledgement is gone after a crash".into()
    })?;
    let mut follower = Follower::after(&writer.store, at);
    let last = writer.epoch.as_ref().map_or(at, |epoch| epoch.revision);
    let seen = follower.until(last, false).await?.len();
    let entries = answer(|| writer.store.audit_entries(last, 1, 99)).await?.len();
    require(seen == entries, "10 order and completeness", || {
        format!("{seen} of {entries} transactions are delivered after a crash")
    })
}

/// Whether a transaction without a known outcome was committed: then as a whole, and never later.
async fn decided_once<S: ConsensusStore>(
    writer: &mut Writer<S>,
    transaction: &Transaction,
) -> Result<(), Violation> {
    let latest = answer(|| writer.store.latest()).await?;
    let is_done = latest.epoch.as_ref().is_some_and(|epoch| epoch.value == transaction.epoch);
    let entries =
        answer(|| writer.store.audit_entries(latest.revision, writer.sequence, 1)).await?;
    require(entries.is_empty() != is_done, "5 atomicity", || {
        format!("a part of a transaction was committed: {:?}, {entries:?}", latest.epoch)
    })?;
    if is_done {
        (writer.epoch, writer.sequence) = (latest.epoch, writer.sequence + 1);
    }
    // The next change makes the transaction conflict, whenever it arrives. The transaction may arrive before
    // that change.
    let mut next = writer.change(vec![put(record(0), "after")]);
    loop {
        let commit = writer.store.commit(next.clone());
        let outcome = soon(TIMEOUT, "the outcome of a transaction", commit).await?;
        let latest = answer(|| writer.store.latest()).await?;
        if latest.epoch.as_ref().is_some_and(|epoch| epoch.value == next.epoch) {
            (writer.epoch, writer.sequence) = (latest.epoch, writer.sequence + 1);
            break;
        }
        if latest.epoch != writer.epoch {
            // The earlier one arrived late.
            let is_late = latest.epoch.as_ref().is_some_and(|e| e.value == transaction.epoch);
            require(is_late && !is_done, UNKNOWN, || format!("committed twice: {latest:?}"))?;
            (writer.epoch, writer.sequence) = (latest.epoch, writer.sequence + 1);
            next = writer.change(vec![put(record(0), "after")]);
            continue;
        }
        let is_open = matches!(outcome, TransactionOutcome::Unknown(_));
        require(is_open, UNKNOWN, || format!("not committed, and the outcome is {outcome:?}"))?;
    }
    let late = writer.store.commit(transaction.clone());
    let outcome = soon(TIMEOUT, "the outcome of a transaction", late).await?;
    let is_committed = matches!(outcome, TransactionOutcome::Committed { .. });
    require(!is_committed, UNKNOWN, || format!("it is committed a second time: {outcome:?}"))
}

async fn ends<T>(what: &str, call: impl Future<Output = T>) -> Result<T, Violation> {
    match timeout(LONGEST_CALL, call).await {
        Ok(value) => Ok(value),
        Err(_) => violation(TIMEOUT, format!("{what} does not end while all nodes hang")),
    }
}

async fn unavailable<T>(
    what: &str,
    call: impl Future<Output = Result<T, ConsensusError>>,
) -> Result<(), Violation> {
    match ends(what, call).await? {
        Err(ConsensusError::Unavailable(_)) => Ok(()),
        Err(error) => violation("errors", format!("no node answered, and {what} is {error:?}")),
        Ok(_) => violation("2 linearizability", format!("no node answered, and {what} succeeds")),
    }
}

/// A dropped write takes effect as a whole, once, or never.
async fn dropped_writes<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    let mut writer = Writer::create(fixture.create().await).await?;
    for micros in [1, 100, 500, 1000, 2000, 5000, 20_000] {
        let transaction = writer.change(vec![put(record(0), format!("{micros}"))]);
        let commit = writer.store.commit(transaction.clone());
        let _ = timeout(Duration::from_micros(micros), commit).await;
        decided_once(&mut writer, &transaction)
            .await
            .map_err(|violation| Violation { clause: CANCELLED, ..violation })?;
    }
    Ok(())
}

/// A client can be used in another runtime after the first one has ended.
async fn another_runtime<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    let writer = Writer::create(fixture.create().await).await?;
    let store = fixture.connect().await;
    let used = thread::spawn(move || {
        let mut found = Vec::new();
        for _ in 0..2 {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            found.push(runtime.block_on(answer(|| store.latest())).map_err(|e| e.to_string())?);
        }
        Ok::<_, String>(found)
    });
    match used.join() {
        Ok(Ok(found)) => require(found.iter().all(|l| l.epoch == writer.epoch), RUNTIME, || {
            format!("other runtimes read {found:?}")
        }),
        Ok(Err(error)) => violation(RUNTIME, error),
        Err(_) => violation(RUNTIME, "a call panicked in another runtime"),
    }
}
