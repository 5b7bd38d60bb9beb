//! Imports a whole store into an empty consensus store, and exports it again.

use super::{
    consensus::{ConsensusError, ConsensusStore, ImportProgress, Key, Revision, Transaction},
    keys::{db_key, key},
    version::{self, ENTRIES_AT_ONCE, StoreVersion, missing},
};
use crate::{
    codec::{self, DbKey, MAX_VALUE, Mark, Meta},
    digest::Seals,
    error::Error,
    random,
    scope::NumberedScope,
};

/// The first values of an import of a store: the meta record, the scope names, and the audit start. The
/// meta record authenticates all values.
pub(crate) struct Source {
    meta: Meta,
    first: Vec<(DbKey, Vec<u8>)>,
}

impl Source {
    pub(crate) fn new(
        meta: Meta,
        scopes: &[NumberedScope],
        audit_start: Option<Vec<u8>>,
        seals: &Seals,
    ) -> Result<Self, Error> {
        let placed = |(scope, number): (&NumberedScope, u8)| {
            let frame = codec::encode_scope(scope, number, &seals.frame)?;
            Ok((DbKey::Scope(number), frame))
        };
        let mut first =
            scopes.iter().zip(0..=u8::MAX).map(placed).collect::<Result<Vec<_>, Error>>()?;
        first.extend(audit_start.map(|frame| (DbKey::AuditStart, frame)));
        Ok(Self { meta, first })
    }

    /// Returns the number of first values.
    pub(crate) fn len(&self) -> usize {
        self.first.len()
    }

    /// Returns a name that identifies this state of this store.
    fn name(&self) -> Vec<u8> {
        let Mark { store, sequence, head, .. } = &self.meta.mark;
        [&store[..], &sequence.to_be_bytes(), head].concat()
    }
}

/// The values of one transaction.
#[derive(Default)]
struct Batch {
    values: Vec<(Key, Vec<u8>)>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, db_key: DbKey, frame: Vec<u8>) {
        let Some(key) = key(db_key) else { return };
        self.bytes += frame.len() + Transaction::WRITE_OVERHEAD;
        self.values.push((key, frame));
    }

    /// Whether one more value might exceed the limits of a transaction.
    fn is_full(&self) -> bool {
        let largest = MAX_VALUE + Transaction::WRITE_OVERHEAD;
        self.values.len() >= Transaction::MAX_WRITES
            || self.bytes + largest > Transaction::MAX_BYTES
    }
}

/// Writes the first values and then all values that `next` returns. `next` returns the values of a source
/// always in the same order, so that an interrupted import can be resumed. `None` means that all values
/// were checked.
pub(crate) async fn import<C: ConsensusStore>(
    consensus: &C,
    seals: &Seals,
    source: Source,
    mut next: impl FnMut() -> Result<Option<(DbKey, Vec<u8>)>, Error>,
    mut report: impl FnMut(u64),
) -> Result<(), Error> {
    let mut progress = consensus.begin_import(&source.name()).await?;
    let Source { mut meta, first } = source;
    let mut first = first.into_iter();
    let mut skip = progress.done;
    let mut batch = Batch::default();
    while let Some((db_key, frame)) =
        first.next().map_or_else(&mut next, |value| Ok(Some(value)))?
    {
        if skip > 0 {
            skip -= 1;
            continue;
        }
        batch.add(db_key, frame);
        if batch.is_full() {
            progress = write(consensus, progress, std::mem::take(&mut batch)).await?;
            report(progress.done);
        }
    }
    progress = write(consensus, progress, batch).await?;
    report(progress.done);
    // A new store id: if the source stays in use, its changes belong to another store.
    meta.mark.store = random::array()?;
    let epoch = codec::encode_epoch(&meta, &[0; 32], &seals.meta)?;
    Ok(consensus.finish_import(progress, &epoch).await?)
}

async fn write<C: ConsensusStore>(
    consensus: &C,
    progress: ImportProgress,
    batch: Batch,
) -> Result<ImportProgress, ConsensusError> {
    if batch.values.is_empty() {
        return Ok(progress);
    }
    consensus.import(progress, batch.values).await
}

/// A store in a consensus store, at one version.
pub(crate) struct Export<'c, C> {
    consensus: &'c C,
    version: StoreVersion,
}

impl<'c, C: ConsensusStore> Export<'c, C> {
    pub(crate) async fn begin(consensus: &'c C, seals: &Seals) -> Result<Self, Error> {
        let version = StoreVersion::of(version::newest(consensus).await?, seals)?;
        Ok(Self { consensus, version })
    }

    /// Returns the meta record, which authenticates all values.
    pub(crate) fn meta(&self) -> &Meta {
        &self.version.meta
    }

    /// Returns the number of values.
    pub(crate) fn values(&self) -> u64 {
        let Mark { sequence, records, scopes, .. } = self.version.meta.mark;
        let entries = sequence.saturating_sub(self.version.audit_start.0.through);
        entries.saturating_add(records).saturating_add(scopes)
    }

    /// Passes all values to `put`. Fails if they do not match the meta record.
    pub(crate) async fn read(
        self,
        seals: &Seals,
        mut put: impl FnMut(DbKey, Vec<u8>) -> Result<(), Error>,
        mut report: impl FnMut(u64),
    ) -> Result<(), Error> {
        let Self { consensus, version } = self;
        let (at, expected) = (version.at, version.meta.mark);
        let (mut found, mut done) = (version.nothing(), 0);
        if let Some(frame) = version.audit_start.1 {
            put(DbKey::AuditStart, frame)?;
        }
        for (frame, number) in consensus.scope_names(at).await?.into_iter().zip(0..) {
            let db_key = DbKey::Scope(number);
            found.add(codec::frame_hash(&frame, db_key, &seals.frame)?);
            found.scopes += 1;
            done += 1;
            put(db_key, frame)?;
        }
        while found.sequence < expected.sequence {
            let left =
                usize::try_from(expected.sequence - found.sequence).unwrap_or(ENTRIES_AT_ONCE);
            let entries =
                consensus.audit_entries(at, found.sequence, left.min(ENTRIES_AT_ONCE)).await?;
            if entries.is_empty() {
                return Err(missing(found.sequence + 1));
            }
            for (sequence, frame) in entries {
                if sequence != found.sequence + 1 {
                    return Err(missing(found.sequence + 1));
                }
                let head = codec::verify_entry(&frame, sequence, &found.head, &seals.audit)?;
                (found.sequence, found.head) = (sequence, head);
                done += 1;
                put(DbKey::Entry(sequence), frame)?;
            }
            report(done);
        }
        let mut after = None;
        loop {
            let page = consensus.records(at, after).await?;
            for (digest, frame) in page.records {
                let db_key = db_key(Key::Record(digest));
                found.add(codec::frame_hash(&frame, db_key, &seals.frame)?);
                found.records += 1;
                done += 1;
                after = Some(digest);
                put(db_key, frame)?;
            }
            report(done);
            if page.is_last {
                break;
            }
        }
        if found != expected {
            return Err(Error::damaged("the values in the consensus store do not match its epoch"));
        }
        // Last uses are read at no particular revision. No decision depends on them, so unreadable ones are
        // skipped.
        for (id, frame) in consensus.last_uses(Revision::default()).await?.uses {
            let db_key = db_key(Key::LastUse(id));
            if let DbKey::Use(id) = db_key
                && !id.is_reserved()
                && codec::decode_use(&frame, id, &seals.frame).is_ok()
            {
                put(db_key, frame)?;
            }
        }
        Ok(())
    }
}
