//! Imports: resuming, replacing an unfinished one, and finishing.

use super::{
    fixture::{Fixture, Violation, answer, require, soon, violation},
    watches::{Follower, same},
    writer::{Writer, record},
};
use crate::cluster::{
    Committed, ConsensusError, ConsensusStore, ImportProgress, Key, Revision, Transaction,
    TransactionOutcome, Write,
};

const IMPORT: &str = "20 imports";

pub(super) async fn check<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    let store = fixture.create().await;
    let values = |numbers: std::ops::Range<u64>| -> Vec<(Key, Vec<u8>)> {
        numbers.map(|n| (record(n), format!("record {n}").into_bytes())).collect()
    };
    // An import that is begun and never finished leaves nothing.
    let stale = answer(|| store.begin_import(b"first")).await?;
    let begun = (stale.source.as_slice(), stale.done);
    require(begun == (b"first", 0), IMPORT, || format!("begun: {stale:?}"))?;
    let mut others = values(1000..1003);
    others.extend([
        (Key::AuditEntry(1), b"other".to_vec()),
        (Key::LastUse(1), b"other".to_vec()),
        (Key::ScopeName(9), b"other".to_vec()),
    ]);
    create_is_refused(&store, "nothing is imported yet").await?;
    let stale = import(&store, stale, others).await?;
    require(stale.done == 6, IMPORT, || format!("{stale:?} after six values"))?;
    create_is_refused(&store, "six values are imported").await?;

    let other = fixture.connect().await;
    let mut progress = answer(|| other.begin_import(b"second")).await?;
    require(progress.done == 0, IMPORT, || format!("another source resumes {progress:?}"))?;
    refused(&store, stale, "an import that was replaced continues").await?;
    let most = Transaction::MAX_WRITES as u64;
    let start = progress.revision;
    progress = import(&other, progress, values(0..most)).await?;
    let mut watched = vec![delivered(&progress, values(0..most))];
    let resumed = answer(|| store.begin_import(b"second")).await?;
    require(resumed == progress, IMPORT, || format!("{progress:?} is resumed as {resumed:?}"))?;
    let old = progress.clone();
    progress = import(&store, resumed, values(most..most + 10)).await?;
    watched.push(delivered(&progress, values(most..most + 10)));
    let name = (Key::ScopeName(0), b"name".to_vec());
    let entry = (Key::AuditEntry(1), b"entry".to_vec());
    progress = import(&store, progress, vec![entry, name.clone()]).await?;
    watched.push(delivered(&progress, vec![name]));
    refused(&other, old, "an import continues that another process has taken over").await?;
    create_is_refused(&store, "all values are imported").await?;
    let latest = answer(|| store.latest()).await?;
    require(latest.epoch.is_none(), IMPORT, || "a part of an import is a store".into())?;
    let page = answer(|| other.records(latest.revision, None)).await?;
    require(!page.records.is_empty(), IMPORT, || "imported values cannot be read".into())?;

    let finish = soon("17 timeouts", "an answer", store.finish_import(progress.clone(), b"epoch"));
    let finished = match finish.await? {
        Ok(()) => Ok(()),
        Err(error) => {
            // The answer may have been lost.
            let latest = answer(|| store.latest()).await?;
            if latest.epoch.is_some_and(|epoch| epoch.value == b"epoch") {
                Ok(())
            } else {
                Err(error)
            }
        }
    };
    require(finished.is_ok(), IMPORT, || format!("it cannot be finished: {finished:?}"))?;
    let latest = answer(|| other.latest()).await?;
    require(latest.epoch.as_ref().is_some_and(|epoch| epoch.value == b"epoch"), IMPORT, || {
        format!("finished, and there is {latest:?}")
    })?;
    let revision = latest.epoch.as_ref().map_or(start, |epoch| epoch.revision);
    watched.push(Committed { revision, epoch: Some(b"epoch".to_vec()), writes: Vec::new() });
    same(&Follower::after(&other, start).until(revision, false).await?, &watched)?;
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = answer(|| other.records(latest.revision, after)).await?;
        after = page.records.last().map(|(digest, _)| *digest).or(after);
        found.extend(page.records.into_iter().map(|(digest, value)| (Key::Record(digest), value)));
        if page.is_last {
            break;
        }
    }
    let mut expected = values(0..most + 10);
    expected.sort();
    require(found == expected, IMPORT, || {
        format!("{} of {} records are there", found.len(), expected.len())
    })?;
    let names = answer(|| other.scope_names(latest.revision)).await?;
    let entries = answer(|| other.audit_entries(latest.revision, 0, 9)).await?;
    let uses = answer(|| other.last_uses(Revision(0))).await?.uses;
    let is_clean = names == [b"name"] && entries == [(1, b"entry".to_vec())] && uses.is_empty();
    require(is_clean, IMPORT, || {
        format!("the first import left something: {names:?}, {entries:?}, {uses:?}")
    })?;
    refused(&other, progress, "an import continues after its end").await?;
    loop {
        match soon("17 timeouts", "an answer", other.begin_import(b"second")).await? {
            Err(ConsensusError::Refused(_)) => break,
            Err(ConsensusError::Unavailable(_)) => {}
            begun => return violation(IMPORT, format!("a store is there: {begun:?}")),
        }
    }
    // Changes continue on the imported epoch.
    let mut writer = Writer { store: other, epoch: latest.epoch, sequence: 1 };
    writer.write(Vec::new()).await.map(drop)
}

/// Returns the event of a watch for an import of these values.
fn delivered(progress: &ImportProgress, values: Vec<(Key, Vec<u8>)>) -> Committed {
    let writes = values.into_iter().map(|(key, value)| Write { key, value: Some(value) });
    Committed { revision: progress.revision, epoch: None, writes: writes.collect() }
}

/// A store that is created over an unfinished import could neither be opened nor be imported into.
async fn create_is_refused<S: ConsensusStore>(store: &S, when: &str) -> Result<(), Violation> {
    let epoch = b"created".to_vec();
    let transaction = Transaction { expected: None, writes: Vec::new(), epoch };
    loop {
        let commit = store.commit(transaction.clone());
        match soon("17 timeouts", "the outcome of a transaction", commit).await? {
            TransactionOutcome::Refused(_) => return Ok(()),
            TransactionOutcome::Unknown(_) => {}
            other => {
                return violation(IMPORT, format!("a store is created while {when}: {other:?}"));
            }
        }
    }
}

/// Writes values. On a busy host the answer may be lost.
async fn import<S: ConsensusStore>(
    store: &S,
    progress: ImportProgress,
    values: Vec<(Key, Vec<u8>)>,
) -> Result<ImportProgress, Violation> {
    let expected = progress.done + values.len() as u64;
    let source = progress.source.clone();
    let call = store.import(progress.clone(), values.clone());
    let next = match soon("17 timeouts", "an answer", call).await? {
        Ok(next) => next,
        Err(ConsensusError::Unavailable(_)) => {
            let now = answer(|| store.begin_import(&source)).await?;
            if now.done == expected {
                now
            } else {
                answer(|| store.import(now.clone(), values.clone())).await?
            }
        }
        Err(error) => return violation(IMPORT, format!("values are not taken: {error:?}")),
    };
    let is_right =
        next.done == expected && next.source == source && next.revision > progress.revision;
    require(is_right, IMPORT, || format!("{next:?} after {progress:?}"))?;
    Ok(next)
}

async fn refused<S: ConsensusStore>(
    store: &S,
    progress: ImportProgress,
    what: &str,
) -> Result<(), Violation> {
    loop {
        let values = vec![(record(5000), b"refused".to_vec())];
        let call = store.import(progress.clone(), values);
        match soon("17 timeouts", "an answer", call).await? {
            Err(ConsensusError::Refused(_)) => break,
            Err(ConsensusError::Unavailable(_)) => {}
            other => return violation(IMPORT, format!("{what}: {other:?}")),
        }
    }
    loop {
        let call = store.finish_import(progress.clone(), b"refused");
        match soon("17 timeouts", "an answer", call).await? {
            Err(ConsensusError::Refused(_)) => return Ok(()),
            Err(ConsensusError::Unavailable(_)) => {}
            other => return violation(IMPORT, format!("{what}: {other:?}")),
        }
    }
}
