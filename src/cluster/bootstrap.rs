//! Reads the whole store at one revision into the index, and checks it.

use super::{
    consensus::{ConsensusError, ConsensusStore, Latest, Revision},
    follower::{Follower, KeyState},
    position::Position,
};
use crate::{
    codec::{self, AuditStart, DbKey, Mark, Meta},
    digest::{Digest, Seals},
    error::Error,
    id::KeyId,
    scope::NumberedScope,
};
use std::{collections::HashSet, path::Path, sync::Arc};

/// Why the store could not be read.
#[derive(Debug)]
pub(crate) enum BootstrapError {
    /// A call of the consensus store failed.
    Consensus(ConsensusError),
    /// The consensus store holds no store, or a damaged one.
    Content(Error),
}

/// Reads everything. If the store's history contains the change at `known`, the applied state stays
/// visible meanwhile. Otherwise the gate is shut first and the index is cleared.
///
/// `known` becomes `None` when the bootstrap begins to apply. After a failure, the index may contain parts
/// of a history that the next attempt does not find.
pub(crate) async fn bootstrap<C: ConsensusStore, F: Follower>(
    consensus: &C,
    follower: &F,
    known: &mut Option<Arc<Position>>,
) -> Result<Position, BootstrapError> {
    let Latest { revision, epoch } = consensus.latest().await?;
    let Some(epoch) = epoch else {
        follower.gate().shut();
        return Err(Error::NotFound(Path::new("the consensus store").into()).into());
    };
    let seals = follower.seals();
    let (meta, _) = codec::decode_epoch(&epoch.value, &seals.meta, seals.pepper_check)?;
    let continues = match known {
        Some(known) => contains(consensus, revision, &meta, &known.meta).await?,
        None => false,
    };
    *known = None;
    if !continues {
        follower.gate().shut();
        follower.clear();
    }
    let mut found = meta.mark.emptied();
    let audit_start = decode_audit_start(consensus.audit_start(revision).await?, seals)?;
    follower.set_audit_start(&audit_start.0);
    let scopes = read_scopes(consensus, follower, revision, &mut found).await?;
    follower.set_scopes(&scopes)?;
    let ids = read_records(consensus, follower, revision, &mut found).await?;
    if found != meta.mark {
        follower.gate().shut();
        return Err(Error::damaged(format!(
            "the consensus store holds {2} records and {3} scope names, not the {0} and {1} of its epoch",
            meta.mark.records, meta.mark.scopes, found.records, found.scopes
        ))
        .into());
    }
    // Keys that no longer exist are removed before anything is proved.
    let gone = follower.index().keys_except(&ids).into_iter();
    let sequence = meta.mark.sequence;
    let gone = gone.map(|(id, digest)| KeyState { sequence, id, digest, record: None });
    follower.apply(&meta, gone.collect())?;
    Ok(Position { applied: revision, epoch, meta, audit_start, scopes })
}

/// Whether the store's history contains the last change of a known state.
async fn contains<C: ConsensusStore>(
    consensus: &C,
    at: Revision,
    meta: &Meta,
    known: &Meta,
) -> Result<bool, BootstrapError> {
    let (mark, known) = (&meta.mark, &known.mark);
    if mark.store != known.store || mark.sequence < known.sequence {
        return Ok(false);
    }
    let Some(before) = known.sequence.checked_sub(1) else { return Ok(true) };
    let entries = consensus.audit_entries(at, before, 1).await?;
    Ok(entries.first().is_some_and(|(sequence, frame)| {
        *sequence == known.sequence
            && codec::entry_head(frame, *sequence).is_ok_and(|head| head == known.head)
    }))
}

/// Returns the audit start that a frame contains, and the frame.
pub(super) fn decode_audit_start(
    frame: Option<Vec<u8>>,
    seals: &Seals,
) -> Result<(AuditStart, Option<Vec<u8>>), Error> {
    let audit_start =
        frame.as_ref().map(|frame| codec::decode_audit_start(frame, &seals.meta)).transpose()?;
    Ok((audit_start.unwrap_or_default(), frame))
}

async fn read_scopes<C: ConsensusStore, F: Follower>(
    consensus: &C,
    follower: &F,
    at: Revision,
    found: &mut Mark,
) -> Result<Vec<NumberedScope>, BootstrapError> {
    let (mut scopes, seal) = (Vec::new(), &follower.seals().frame);
    for (frame, number) in consensus.scope_names(at).await?.iter().zip(0u8..) {
        scopes.push(codec::decode_scope(frame, number, seal)?);
        found.add(codec::frame_hash(frame, DbKey::Scope(number), seal)?);
        found.scopes += 1;
    }
    Ok(scopes)
}

async fn read_records<C: ConsensusStore, F: Follower>(
    consensus: &C,
    follower: &F,
    at: Revision,
    found: &mut Mark,
) -> Result<HashSet<KeyId>, BootstrapError> {
    let seal = &follower.seals().frame;
    let (mut ids, mut after) = (HashSet::new(), None);
    loop {
        let page = consensus.records(at, after).await?;
        for (digest, frame) in &page.records {
            after = Some(*digest);
            let digest = Digest::from_bytes(*digest);
            let (record, hash) = codec::decode_record(frame, digest, seal, follower.catalogue())?;
            found.add(hash);
            found.records += 1;
            let (id, revision) = (record.id, record.revision);
            follower.index().apply(revision, id, digest, Some(&record))?;
            ids.insert(id);
        }
        if page.is_last {
            return Ok(ids);
        }
    }
}

impl From<ConsensusError> for BootstrapError {
    fn from(error: ConsensusError) -> Self {
        Self::Consensus(error)
    }
}

impl From<Error> for BootstrapError {
    fn from(error: Error) -> Self {
        Self::Content(error)
    }
}

impl From<BootstrapError> for Error {
    fn from(error: BootstrapError) -> Self {
        match error {
            BootstrapError::Consensus(error) => error.into(),
            BootstrapError::Content(error) => error,
        }
    }
}
