//! The whole store as it was at one revision, read into the index and checked.

use super::{
    follower::{Follower, KeyState},
    journal::{Epoch, Fault, Journal, Newest, Revision},
};
use crate::{
    codec::{self, AuditStart, Mark, Meta, Place},
    digest::Seals,
    error::Error,
    id::KeyId,
    ledger::shared::Following,
    scope::Scope,
};
use std::{
    collections::HashSet,
    path::Path,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::sync::Notify;

/// What a replica has applied.
#[derive(Clone, Debug)]
pub(crate) struct Position {
    /// Everything up to here.
    pub(crate) applied: Revision,
    /// The epoch at that revision, and what it says.
    pub(crate) epoch: Epoch,
    pub(crate) meta: Meta,
    /// Where the trail begins, and the frame of that where something was cut from it.
    pub(crate) floor: (AuditStart, Option<Vec<u8>>),
    /// The scope names that are numbered.
    pub(crate) names: Vec<Scope>,
}

/// The position as it moves on. Whoever waits is woken in the order in which they came, so that a
/// simulation replays; a `watch` wakes them in any.
pub(crate) struct Applied {
    now: Mutex<Arc<Position>>,
    moved: Notify,
    /// The newest epoch that was heard of.
    heard: AtomicU64,
    /// How often everything was read.
    bootstraps: AtomicU64,
}

impl Applied {
    pub(crate) fn new(start: Position) -> Arc<Self> {
        let (heard, bootstraps) = (AtomicU64::new(start.epoch.revision.0), AtomicU64::new(1));
        let now = Mutex::new(Arc::new(start));
        Arc::new(Self { now, moved: Notify::new(), heard, bootstraps })
    }

    pub(crate) fn now(&self) -> Arc<Position> {
        Arc::clone(&self.now.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn move_to(&self, position: Position) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(position);
        self.moved.notify_waiters();
    }

    /// Everything was read anew, maybe of an engine that counts from an earlier revision.
    pub(super) fn begin_again(&self, position: Position) {
        self.heard.store(position.epoch.revision.0, Relaxed);
        self.bootstraps.fetch_add(1, Relaxed);
        self.move_to(position);
    }

    /// How often everything was read.
    pub(super) fn bootstraps(&self) -> u64 {
        self.bootstraps.load(Relaxed)
    }

    /// There is an epoch of this revision.
    pub(super) fn hear(&self, epoch: Revision) {
        self.heard.fetch_max(epoch.0, Relaxed);
    }

    /// How far what is applied is behind, and how often everything was read; the gate is elsewhere.
    pub(super) fn following(&self) -> Following {
        let (heard, applied) = (self.heard.load(Relaxed), self.now().applied.0);
        let (behind, bootstraps) = (heard.saturating_sub(applied), self.bootstraps());
        Following { behind, bootstraps, ..Following::default() }
    }

    /// Until an epoch of this revision is applied.
    pub(crate) async fn reach(&self, revision: Revision) {
        loop {
            let mut moved = pin!(self.moved.notified());
            moved.as_mut().enable();
            if self.now().epoch.revision >= revision {
                return;
            }
            moved.await;
        }
    }
}

/// Reads everything. What was applied before stays visible meanwhile, if the store has passed
/// through what is `known`; else the gate is shut first and the index emptied.
///
/// Once it has begun to apply, nothing is known any more: whoever tries again after a failure may
/// meet another history, with parts of this one in the index.
pub(crate) async fn bootstrap<J: Journal, F: Follower>(
    journal: &J,
    follower: &F,
    known: &mut Option<Arc<Position>>,
) -> Result<Position, Fault> {
    let Newest { revision, epoch } = journal.newest().await?;
    let Some(epoch) = epoch else {
        follower.gate().shut();
        return Err(Fault::Refused(Error::NotFound(Path::new("the engine").into())));
    };
    let seals = follower.seals();
    let (meta, _) = codec::decode_epoch(&epoch.frame, &seals.meta, seals.pepper_check)?;
    let continues = match known {
        Some(known) => passed_through(journal, revision, &meta, &known.meta).await?,
        None => false,
    };
    *known = None;
    if !continues {
        follower.gate().shut();
        follower.start_over();
    }
    let mut found = Mark { records: 0, scopes: 0, sum: [0; 32], ..meta.mark };
    let floor = floor(journal.floor(revision).await?, seals)?;
    follower.learn_floor(&floor.0);
    let names = names(journal, follower, revision, &mut found).await?;
    follower.learn(&names)?;
    let ids = records(journal, follower, revision, &mut found).await?;
    if found != meta.mark {
        follower.gate().shut();
        return Err(Error::damaged(format!(
            "the engine should hold {} records and {} scope names and holds {} and {}, or others than those",
            meta.mark.records, meta.mark.scopes, found.records, found.scopes
        ))
        .into());
    }
    // What is gone since was taken away, and is so before anything is proved.
    let gone = follower.index().others_than(&ids).into_iter();
    let sequence = meta.mark.sequence;
    let gone = gone.map(|(id, digest)| KeyState { sequence, id, digest, record: None });
    follower.apply(&meta, gone.collect())?;
    Ok(Position { applied: revision, epoch, meta, floor, names })
}

/// Whether the store's history has the very change in it that is known.
async fn passed_through<J: Journal>(
    journal: &J,
    at: Revision,
    meta: &Meta,
    known: &Meta,
) -> Result<bool, Fault> {
    let (mark, known) = (&meta.mark, &known.mark);
    if mark.store != known.store || mark.sequence < known.sequence {
        return Ok(false);
    }
    let Some(before) = known.sequence.checked_sub(1) else { return Ok(true) };
    let entries = journal.trail(at, before, 1).await?;
    Ok(entries.first().is_some_and(|(sequence, frame)| {
        *sequence == known.sequence
            && codec::entry_head(frame, *sequence).is_ok_and(|head| head == known.head)
    }))
}

/// Where a trail begins, of its frame.
pub(super) fn floor(
    frame: Option<Vec<u8>>,
    seals: &Seals,
) -> Result<(AuditStart, Option<Vec<u8>>), Error> {
    let floor =
        frame.as_ref().map(|frame| codec::decode_audit_start(frame, &seals.meta)).transpose()?;
    Ok((floor.unwrap_or_default(), frame))
}

async fn names<J: Journal, F: Follower>(
    journal: &J,
    follower: &F,
    at: Revision,
    found: &mut Mark,
) -> Result<Vec<Scope>, Fault> {
    let mut names = Vec::new();
    for (frame, number) in journal.names(at).await?.iter().zip(0u8..) {
        names.push(name(frame, number, follower)?);
        found.add(codec::frame_hash(frame, Place::Scope(number), &follower.seals().frame)?);
        found.scopes += 1;
    }
    Ok(names)
}

/// A scope name out of its frame.
pub(super) fn name<F: Follower>(frame: &[u8], number: u8, follower: &F) -> Result<Scope, Error> {
    let name = codec::decode_scope(frame, number, &follower.seals().frame)?;
    name.parse().map_err(|_| Error::damaged("a scope name is not one"))
}

async fn records<J: Journal, F: Follower>(
    journal: &J,
    follower: &F,
    at: Revision,
    found: &mut Mark,
) -> Result<HashSet<KeyId>, Fault> {
    let seal = &follower.seals().frame;
    let (mut ids, mut after) = (HashSet::new(), None);
    loop {
        let page = journal.records(at, after).await?;
        for (digest, frame) in &page.records {
            let (record, hash) = codec::decode_record(frame, *digest, seal, follower.catalogue())?;
            found.add(hash);
            found.records += 1;
            let (id, revision) = (record.id, record.revision);
            follower.index().apply(revision, id, *digest, Some(&record))?;
            ids.insert(id);
            after = Some(*digest);
        }
        if page.is_last {
            return Ok(ids);
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}
