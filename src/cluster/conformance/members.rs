//! Members: joining, proofs, acknowledgements, fencing, removal, and what a member watch delivers.

use super::{
    fixture::{Fixture, Violation, answer, require, soon, violation},
    writer::{Writer, put, record},
};
use crate::cluster::{
    ConsensusStore, MemberEvent, MemberId, MemberRow, MemberWatch, Revision, TransactionOutcome,
};
use std::future::Future;
use tokio::join;

const LISTED: &str = "7 members of a transaction";
const WATCHED: &str = "13 watches over members";
const JOINED: &str = "14 joining";
const PROOF: &str = "15 proofs and acknowledgements";
const FENCED: &str = "16 fencing and removal";

pub(super) async fn check<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    member_lifecycle(fixture).await?;
    repeated_join_of_a_fenced_member(fixture).await?;
    members_of_a_transaction(fixture).await?;
    one_of_two_fences_and_removes(fixture).await?;
    watch(fixture).await
}

fn id(number: u8) -> MemberId {
    MemberId([number, 0xff, 0, 0x80, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, number])
}

async fn listed<S: ConsensusStore>(
    store: &S,
    id: MemberId,
) -> Result<Option<MemberRow>, Violation> {
    Ok(answer(|| store.members()).await?.members.into_iter().find(|member| member.id == id))
}

async fn member_lifecycle<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    let info: Vec<u8> = (0..512_u32).map(|n| n.to_le_bytes()[0]).collect();
    let store = fixture.create().await;
    let early = answer(|| store.join(id(1), &info)).await?;
    let proof = answer(|| store.prove(id(1), early)).await?;
    require(proof.is_none(), PROOF, || format!("without an epoch: {proof:?}"))?;
    let mut writer = Writer::create(store).await?;
    let (store, other) = (&writer.store, fixture.connect().await);
    let joined = answer(|| store.join(id(2), &info)).await?;
    require(joined > early, JOINED, || format!("{joined:?} after {early:?}"))?;
    let again = answer(|| store.join(id(2), &info)).await?;
    require(again == joined, JOINED, || format!("{again:?} again, and {joined:?} before"))?;
    let row = listed(&other, id(2)).await?;
    let expected =
        MemberRow { id: id(2), info, revision: joined, is_fenced: false, applied: Revision(0) };
    require(row.as_ref() == Some(&expected), JOINED, || format!("{row:?}"))?;

    let proof = answer(|| other.prove(id(2), joined)).await?;
    let is_right = proof.as_ref().is_some_and(|proof| {
        Some(&proof.epoch) == writer.epoch.as_ref()
            && proof.revision >= joined
            && proof.applied.is_none()
    });
    require(is_right, PROOF, || format!("a new member proves {proof:?}"))?;
    let later = Revision(joined.0 + 1);
    for (id, joined) in [
        (id(2), early),
        (id(3), joined),
        (id(2), later),
        (id(2), Revision(0)),
        (id(3), Revision(0)),
    ] {
        let proof = answer(|| store.prove(id, joined)).await?;
        require(proof.is_none(), PROOF, || format!("at {joined:?}: {proof:?}"))?;
        let written = answer(|| store.acknowledge(id, joined, Revision(5))).await?;
        require(!written, PROOF, || format!("{id} acknowledged at {joined:?}"))?;
    }
    for applied in [Revision(9), Revision(4), Revision(1 << 40)] {
        let written = answer(|| store.acknowledge(id(2), joined, applied)).await?;
        let proof = answer(|| other.prove(id(2), joined)).await?.and_then(|proof| proof.applied);
        let row = listed(&other, id(2)).await?.map(|row| (row.applied, row.revision));
        require(
            written && proof == Some(applied) && row == Some((applied, joined)),
            PROOF,
            || format!("acknowledged {applied:?}: {written}, {proof:?}, {row:?}"),
        )?;
    }
    let written = writer.write(vec![put(record(0), "x")]).await?;
    let proof = answer(|| other.prove(id(2), joined)).await?;
    let epoch = proof.map(|proof| (proof.epoch.revision, proof.revision >= written));
    require(epoch == Some((written, true)), PROOF, || format!("{epoch:?} after {written:?}"))?;

    let store = &writer.store;
    let member = MemberRow { applied: Revision(1 << 40), ..expected };
    let stale = MemberRow { revision: early, ..member.clone() };
    let unknown = MemberRow { id: id(3), revision: Revision(0), ..member.clone() };
    for row in [stale, unknown] {
        let fenced = answer(|| store.fence(&row)).await?;
        let removed = answer(|| store.remove_member(row.id, row.revision)).await?;
        require(fenced.is_none() && !removed, FENCED, || {
            format!("no row is at {:?}: fenced {fenced:?}, removed {removed}", row.revision)
        })?;
    }
    // Only the id and the revision count.
    let outdated = MemberRow { info: b"other".to_vec(), applied: Revision(9), ..member.clone() };
    let fenced = fence(store, &outdated).await?;
    require(fenced > joined, FENCED, || format!("fenced at {fenced:?}, joined at {joined:?}"))?;
    let row = listed(&other, id(2)).await?;
    let expected = MemberRow { is_fenced: true, revision: fenced, ..member.clone() };
    require(row.as_ref() == Some(&expected), FENCED, || format!("a fenced row is {row:?}"))?;
    for row in [&member, &expected] {
        let again = answer(|| store.fence(row)).await?;
        require(again.is_none(), FENCED, || format!("fenced at {fenced:?}, and again: {again:?}"))?;
    }
    let proof = answer(|| other.prove(id(2), joined)).await?;
    let written = answer(|| other.acknowledge(id(2), joined, Revision(10))).await?;
    require(proof.is_none() && !written, PROOF, || {
        format!("a fenced member proves {proof:?} and acknowledges: {written}")
    })?;
    let removed = answer(|| store.remove_member(id(2), joined)).await?;
    require(!removed, FENCED, || "a row of another revision was removed".into())?;
    remove(store, id(2), fenced).await?;
    let again = answer(|| store.remove_member(id(2), fenced)).await?;
    let row = listed(&other, id(2)).await?;
    require(!again && row.is_none(), FENCED, || format!("after its removal: {again}, {row:?}"))?;
    let proof = answer(|| other.prove(id(2), joined)).await?;
    require(proof.is_none(), PROOF, || format!("a removed member proves {proof:?}"))
}

/// A join is repeated because its answer was lost. If the member was fenced meanwhile, neither attempt makes
/// a member that proves or acknowledges.
async fn repeated_join_of_a_fenced_member<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    let writer = Writer::create(fixture.create().await).await?;
    let (store, other) = (&writer.store, fixture.connect().await);
    let joined = answer(|| store.join(id(1), b"joined")).await?;
    let Some(member) = listed(&other, id(1)).await? else {
        return violation(JOINED, "a member that joined is not listed");
    };
    let fenced = fence(&other, &member).await?;
    let again = answer(|| store.join(id(1), b"joined")).await?;
    for revision in [joined, again, fenced] {
        let proof = answer(|| store.prove(id(1), revision)).await?;
        let written = answer(|| store.acknowledge(id(1), revision, Revision(7))).await?;
        require(proof.is_none() && !written, PROOF, || {
            format!(
                "joined at {joined:?}, fenced at {fenced:?}, joined again at {again:?}; with {revision:?} the \
                 member proves {proof:?} and acknowledges: {written}"
            )
        })?;
    }
    require(again == joined, JOINED, || {
        format!("joined at {joined:?}, fenced at {fenced:?}, joined again at {again:?}")
    })?;
    let row = listed(&other, id(1)).await?.map(|row| (row.revision, row.is_fenced, row.applied));
    require(row == Some((fenced, true, Revision(0))), JOINED, || {
        format!("fenced at {fenced:?}, joined again: {row:?}")
    })
}

/// Fences a member. On a busy host the answer may be lost.
async fn fence<S: ConsensusStore>(store: &S, member: &MemberRow) -> Result<Revision, Violation> {
    if let Some(fenced) = answer(|| store.fence(member)).await? {
        return Ok(fenced);
    }
    let row = listed(store, member.id).await?.filter(|row| row.is_fenced);
    row.map_or_else(|| violation(FENCED, "a member is not fenced"), |row| Ok(row.revision))
}

async fn remove<S: ConsensusStore>(
    store: &S,
    id: MemberId,
    revision: Revision,
) -> Result<(), Violation> {
    let removed = answer(|| store.remove_member(id, revision)).await?;
    let is_gone = removed || listed(store, id).await?.is_none();
    require(is_gone, FENCED, || "a member is not removed".into())
}

/// A transaction returns the members that there are, and what they have acknowledged.
async fn members_of_a_transaction<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    let mut writer = Writer::create(fixture.create().await).await?;
    let store = &writer.store;
    let first = answer(|| store.join(id(1), b"first")).await?;
    answer(|| store.acknowledge(id(1), first, Revision(3))).await?;
    let second = answer(|| store.join(id(2), b"second")).await?;
    answer(|| store.join(id(3), b"third")).await?;
    for member in answer(|| store.members()).await?.members {
        if member.id == id(2) {
            fence(store, &member).await?;
        } else if member.id == id(3) {
            remove(store, member.id, member.revision).await?;
        }
    }
    loop {
        let transaction = writer.change(Vec::new());
        let commit = writer.store.commit(transaction.clone());
        match soon("17 timeouts", "the outcome of a transaction", commit).await? {
            TransactionOutcome::Committed { members, .. } => {
                let mut found: Vec<_> =
                    members.into_iter().map(|m| (m.info, m.is_fenced, m.applied.0)).collect();
                found.sort();
                let expected = [(b"first".to_vec(), false, 3), (b"second".to_vec(), true, 0)];
                return require(found == expected && second > first, LISTED, || {
                    format!("{found:?}")
                });
            }
            TransactionOutcome::Unknown(_) => {
                // The next change shows the outcome.
                let latest = answer(|| writer.store.latest()).await?;
                if latest.epoch.as_ref().is_some_and(|epoch| epoch.value == transaction.epoch) {
                    (writer.epoch, writer.sequence) = (latest.epoch, writer.sequence + 1);
                }
            }
            other => return violation("6 compare and set", format!("{other:?}")),
        }
    }
}

async fn one_of_two_fences_and_removes<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    let writer = Writer::create(fixture.create().await).await?;
    let (one, two) = (&writer.store, &fixture.connect().await);
    for round in 0..10 {
        let (id, info) = (id(round), b"raced");
        let revision = answer(|| one.join(id, info)).await?;
        let (is_fenced, applied) = (false, Revision(0));
        let member = MemberRow { id, info: info.to_vec(), revision, is_fenced, applied };
        let (a, b) = both(answer(|| one.fence(&member)), answer(|| two.fence(&member))).await?;
        // A lost answer may hide a success, but only one client may succeed.
        require(a.is_none() || b.is_none(), FENCED, || format!("fenced twice: {a:?}, {b:?}"))?;
        let Some(row) = listed(two, id).await?.filter(|row| row.is_fenced) else {
            return violation(FENCED, "two clients fenced a member, and it is not fenced");
        };
        let (a, b) = both(
            answer(|| one.remove_member(id, row.revision)),
            answer(|| two.remove_member(id, row.revision)),
        )
        .await?;
        require(!(a && b), FENCED, || "removed twice".into())?;
        let row = listed(one, id).await?;
        require(row.is_none(), FENCED, || format!("two clients removed {row:?}"))?;
    }
    Ok(())
}

async fn both<T>(
    one: impl Future<Output = Result<T, Violation>>,
    two: impl Future<Output = Result<T, Violation>>,
) -> Result<(T, T), Violation> {
    let (one, two) = join!(one, two);
    Ok((one?, two?))
}

/// Events of members are delivered in order, whenever the watch begins and ends.
async fn watch<F: Fixture>(fixture: &mut F) -> Result<(), Violation> {
    const ROUNDS: u64 = 8;
    let writer = Writer::create(fixture.create().await).await?;
    let other = fixture.connect().await;
    let joined = answer(|| writer.store.join(id(1), b"watched")).await?;
    let mut watch = other.watch_members(joined);
    let mut seen = Revision(0);
    for applied in (1..=ROUNDS).map(Revision) {
        answer(|| writer.store.acknowledge(id(1), joined, applied)).await?;
        while seen < applied {
            let events = soon(WATCHED, "an event of a member watch", watch.next()).await?;
            let Some(events) = events else {
                // As replicas do: read all members, and continue from there.
                let list = answer(|| other.members()).await?;
                let row = list.members.iter().find(|member| member.id == id(1));
                let now = row.map_or(Revision(0), |row| row.applied);
                require(now >= seen, "2 linearizability", || format!("{now:?} after {seen:?}"))?;
                (seen, watch) = (now, other.watch_members(list.revision));
                continue;
            };
            for event in events {
                let MemberEvent::Applied(_, now) = event else {
                    return violation(WATCHED, format!("nothing but acknowledgements: {event:?}"));
                };
                // None is left out: the next one is one more, but for a repeated write.
                require(now.0 == seen.0 + 1 || now == seen, WATCHED, || {
                    format!("{now:?} after {seen:?}")
                })?;
                seen = now;
            }
        }
    }
    let Some(member) = listed(&other, id(1)).await? else {
        return violation(JOINED, "a member is gone by itself");
    };
    let fenced = fence(&writer.store, &member).await?;
    let event = next_of(&other, &mut watch, |row| row.is_fenced.then_some(row.revision)).await?;
    require(event == Some(fenced), WATCHED, || format!("fenced at {fenced:?}: {event:?}"))?;
    remove(&writer.store, id(1), fenced).await?;
    let event = next_of(&other, &mut watch, |row| Some(row.revision)).await?;
    require(event.is_none(), WATCHED, || format!("removed: {event:?}"))
}

/// The next change of the member as `wanted` sees it; `None` if the member was removed.
async fn next_of<S: ConsensusStore>(
    store: &S,
    watch: &mut S::MemberWatch,
    wanted: impl Fn(&MemberRow) -> Option<Revision>,
) -> Result<Option<Revision>, Violation> {
    loop {
        let events = soon(WATCHED, "an event of a member watch", watch.next()).await?;
        let Some(events) = events else {
            let list = answer(|| store.members()).await?;
            *watch = store.watch_members(list.revision);
            match list.members.iter().find(|member| member.id == id(1)) {
                None => return Ok(None),
                Some(row) if wanted(row).is_some() => return Ok(wanted(row)),
                Some(_) => continue,
            }
        };
        for event in events {
            match event {
                MemberEvent::Removed(_) => return Ok(None),
                MemberEvent::Changed(row) if wanted(&row).is_some() => return Ok(wanted(&row)),
                MemberEvent::Changed(_) | MemberEvent::Applied(..) => {}
            }
        }
    }
}
