//! Values: bytes, reads at a revision, pages, the audit log, last uses.

use super::{
    fixture::{Fixture, Violation, answer, require, soon, violation},
    writer::{Writer, delete, put, record},
};
use crate::cluster::{ConsensusError, ConsensusStore, Key, Revision};

const BYTES: &str = "data";
const SNAPSHOT: &str = "3 reads at a revision";
const PAGES: &str = "records";
const AUDIT: &str = "audit_entries";
const PRUNE: &str = "prune_audit";
const USES: &str = "last uses";

pub(super) async fn check<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    reads_at_a_revision(fixture).await?;
    pages_of_records(fixture).await?;
    audit_log(fixture).await?;
    last_uses(fixture).await
}

async fn reads_at_a_revision<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    let mut writer = Writer::create(fixture.create().await).await?;
    let every_byte: Vec<u8> = (0..4096_u32).map(|n| n.to_le_bytes()[0]).collect();
    let before = writer
        .write(vec![
            put(record(0), every_byte.clone()),
            put(record(1), "one"),
            put(Key::ScopeName(1), "b"),
            put(Key::ScopeName(0), "a"),
            put(Key::AuditStart, "start"),
        ])
        .await?;
    let after = writer
        .write(vec![
            put(record(0), "changed"),
            delete(record(1)),
            put(Key::ScopeName(2), "c"),
            put(Key::AuditStart, "another start"),
        ])
        .await?;
    let other = fixture.connect().await;
    for store in [&writer.store, &other] {
        let seen = state(store, before).await?;
        let expected = (vec![every_byte.clone(), b"one".to_vec()], 2, Some(b"start".to_vec()), 1);
        require(seen.0 == expected.0, BYTES, || format!("records {:?}", seen.0))?;
        require(seen == expected, SNAPSHOT, || format!("at {before:?}: {seen:?}"))?;
        let seen = state(store, after).await?;
        let expected = (vec![b"changed".to_vec()], 3, Some(b"another start".to_vec()), 2);
        require(seen == expected, SNAPSHOT, || format!("at {after:?}: {seen:?}"))?;
        let names = answer(|| store.scope_names(after)).await?;
        require(names == [b"a", b"b", b"c"], SNAPSHOT, || format!("scope names {names:?}"))?;
    }
    // Revision 0 is before every transaction.
    are_compacted(&other, Revision(0)).await?;
    fixture.compact().await;
    let newest = answer(|| other.latest()).await?.revision;
    let seen = state(&other, newest).await?;
    require(seen.0 == [b"changed"], SNAPSHOT, || format!("after compaction: {seen:?}"))?;
    are_compacted(&other, Revision(0)).await?;
    are_compacted(&other, before).await
}

/// The values of records, the number of scope names, the audit start, the number of audit entries.
type Seen = (Vec<Vec<u8>>, usize, Option<Vec<u8>>, usize);

async fn state<S: ConsensusStore>(store: &S, at: Revision) -> Result<Seen, Violation> {
    let records = all_records(store, at).await?.into_iter().map(|(_, value)| value).collect();
    let names = answer(|| store.scope_names(at)).await?.len();
    let start = answer(|| store.audit_start(at)).await?;
    Ok((records, names, start, answer(|| store.audit_entries(at, 0, 100)).await?.len()))
}

async fn all_records<S: ConsensusStore>(
    store: &S,
    at: Revision,
) -> Result<Vec<([u8; 32], Vec<u8>)>, Violation> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = answer(|| store.records(at, after)).await?;
        let last = page.records.last().map(|(digest, _)| *digest);
        require(last.is_some() || page.is_last, PAGES, || {
            "a page is empty and not the last one".into()
        })?;
        after = last.or(after);
        all.extend(page.records);
        if page.is_last {
            return Ok(all);
        }
    }
}

async fn are_compacted<S: ConsensusStore>(store: &S, at: Revision) -> Result<(), Violation> {
    is_compacted(async || store.records(at, None).await.map(drop)).await?;
    is_compacted(async || store.scope_names(at).await.map(drop)).await?;
    is_compacted(async || store.audit_start(at).await.map(drop)).await?;
    is_compacted(async || store.audit_entries(at, 0, 9).await.map(drop)).await
}

async fn is_compacted(
    mut read: impl AsyncFnMut() -> Result<(), ConsensusError>,
) -> Result<(), Violation> {
    loop {
        match soon("17 timeouts", "an answer", read()).await? {
            Err(ConsensusError::Compacted) => return Ok(()),
            Err(ConsensusError::Unavailable(_)) => {}
            other => {
                return violation(SNAPSHOT, format!("a compacted revision is read: {other:?}"));
            }
        }
    }
}

async fn pages_of_records<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    const RECORDS: u64 = 500;
    let mut writer = Writer::create(fixture.create().await).await?;
    let numbers: Vec<_> = (0..RECORDS).collect();
    for numbers in numbers.chunks(100) {
        let puts = numbers.iter().map(|n| put(record(*n), n.to_string()));
        writer.write(puts.collect()).await?;
    }
    let at = answer(|| writer.store.latest()).await?.revision;
    // Records that are written while the pages are read are in no page.
    writer.write((RECORDS..RECORDS + 50).map(|n| put(record(n), "later")).collect()).await?;
    let all = all_records(&writer.store, at).await?;
    let is_sorted = all.is_sorted_by(|(a, _), (b, _)| a < b);
    require(is_sorted, PAGES, || "digests are not in ascending order".into())?;
    require(all.len() as u64 == RECORDS, PAGES, || format!("{} of {RECORDS}", all.len()))?;
    let expected = |n: u64| {
        all.iter().any(|(d, v)| Key::Record(*d) == record(n) && *v == n.to_string().as_bytes())
    };
    require((0..RECORDS).all(expected), PAGES, || "a record has another value".into())?;
    // A page follows any digest, whether a page ended with it, and whether a record has it.
    for (number, (digest, _)) in all.iter().enumerate().step_by(23) {
        let [start @ .., last] = *digest;
        let between = [&start[..], &[last.saturating_add(1)]].concat();
        for after in [Some(*digest), between.try_into().ok()] {
            let page = answer(|| writer.store.records(at, after)).await?;
            let (found, next) = (page.records.first(), all.get(number + 1));
            require(found == next, PAGES, || {
                format!("after {after:?} follows {found:?} instead of {next:?}")
            })?;
        }
    }
    Ok(())
}

async fn audit_log<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    let mut writer = Writer::create(fixture.create().await).await?;
    for _ in 0..12 {
        writer.write(Vec::new()).await?;
    }
    let before = writer.write(vec![put(Key::AuditStart, "through 8")]).await?;
    let store = &writer.store;
    let entries = |numbers: std::ops::RangeInclusive<u64>| -> Vec<_> {
        numbers.map(|n| (n, format!("entry {n}").into_bytes())).collect()
    };
    for (after, limit, expected) in
        [(0, 3, 1..=3), (4, 4, 5..=8), (12, 9, 13..=13), (0, usize::MAX, 1..=13)]
    {
        let found = answer(|| store.audit_entries(before, after, limit)).await?;
        require(found == entries(expected), AUDIT, || format!("{limit} after {after}: {found:?}"))?;
    }
    let none = answer(|| store.audit_entries(before, 13, 5)).await?;
    require(none.is_empty(), AUDIT, || format!("after the last: {none:?}"))?;

    let is_left = answer(|| store.prune_audit(8, b"through 7")).await?;
    let at = answer(|| store.latest()).await?.revision;
    let all = answer(|| store.audit_entries(at, 0, 99)).await?;
    require(!is_left && all.len() == 13, PRUNE, || {
        format!("with another start: {is_left}, {} entries are left", all.len())
    })?;
    while answer(|| store.prune_audit(8, b"through 8")).await? {}
    let latest = answer(|| store.latest()).await?;
    let left = answer(|| store.audit_entries(latest.revision, 0, 99)).await?;
    require(left == entries(9..=13), PRUNE, || format!("left: {left:?}"))?;
    require(latest.epoch == writer.epoch, PRUNE, || format!("the epoch is {:?}", latest.epoch))?;
    let kept = answer(|| store.audit_entries(before, 0, 99)).await?;
    require(kept == entries(1..=13), SNAPSHOT, || format!("pruned in the past: {kept:?}"))?;
    let some = answer(|| store.audit_entries(latest.revision, 4, 5)).await?;
    require(some == entries(9..=9), AUDIT, || {
        format!("5 after 4, of which one is left: {some:?}")
    })?;
    let again = answer(|| store.prune_audit(8, b"through 8")).await?;
    require(!again, PRUNE, || "entries are left where none are".into())
}

async fn last_uses<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    let mut writer = Writer::create(fixture.create().await).await?;
    let other = fixture.connect().await;
    let id = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let uses = |numbers: std::ops::Range<u64>, value: &str| -> Vec<_> {
        numbers.map(|n| (id(n), value.as_bytes().to_vec())).collect()
    };
    for start in (0..300).step_by(100) {
        answer(|| writer.store.put_last_uses(uses(start..start + 100, "first"))).await?;
    }
    let first = answer(|| other.last_uses(Revision(0))).await?;
    require(sorted(&first.uses) == sorted(&uses(0..300, "first")), USES, || {
        format!("{} of 300 are found", first.uses.len())
    })?;
    let none = answer(|| other.last_uses(first.revision)).await?;
    require(none.uses.is_empty(), USES, || format!("nothing was written: {none:?}"))?;
    answer(|| writer.store.put_last_uses(uses(7..9, "second"))).await?;
    let new = answer(|| other.last_uses(first.revision)).await?;
    require(sorted(&new.uses) == sorted(&uses(7..9, "second")), USES, || {
        format!("after {:?}: {:?}", first.revision, new.uses)
    })?;
    let some = [id(6), id(999_999), id(7)];
    let found = answer(|| other.last_uses_of(&some)).await?;
    let expected = [uses(6..7, "first"), uses(7..8, "second")].concat();
    require(sorted(&found) == sorted(&expected), USES, || format!("by their ids: {found:?}"))?;
    let epoch = answer(|| other.latest()).await?.epoch;
    require(epoch == writer.epoch, USES, || format!("the epoch became {epoch:?}"))?;
    writer.write(vec![delete(Key::LastUse(id(7)))]).await?;
    let found = answer(|| other.last_uses_of(&some)).await?;
    require(found == uses(6..7, "first"), USES, || format!("after a deletion: {found:?}"))?;
    let all = answer(|| other.last_uses(Revision(0))).await?.uses;
    require(all.len() == 299, USES, || format!("after a deletion there are {}", all.len()))
}

fn sorted(uses: &[(u64, Vec<u8>)]) -> Vec<(u64, Vec<u8>)> {
    let mut uses = uses.to_vec();
    uses.sort();
    uses
}
