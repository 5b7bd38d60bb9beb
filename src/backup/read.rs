//! Reads and verifies a backup: every value intact and once, none missing, and nothing else.
//!
//! A value that is read before the end is intact by its own seal, but its backup may still turn out
//! to be invalid. So the caller discards all values unless [`Reader::next`] returns [`Item::End`].

use super::{
    format::{Block, In, Kind},
    summary::{Progress, Summary},
};
use crate::{
    audit_entry::AuditEntry,
    codec::{self, AuditStart, DbKey, Mark, Meta},
    digest::{Digest, Seals},
    error::Error,
    record::Record,
    scope::{Catalogue, NumberedScope},
    time::Timestamp,
};
use std::io::Read;

/// A backup that is being read.
pub(crate) struct Reader<'s, R: Read> {
    from: In<R>,
    seals: &'s Seals,
    meta: Meta,
    audit_start: AuditStart,
    audit_start_frame: Option<Vec<u8>>,
    names: Vec<NumberedScope>,
    catalogue: &'static Catalogue,
    /// The mark of the values read so far, to be compared with that of the meta record.
    found: Mark,
    last_digest: Option<Digest>,
    /// The block after the scope names, which was read to find their end.
    held: Option<Block>,
}

/// A value of a backup.
pub(crate) enum Item {
    Entry(Box<AuditEntry>, Vec<u8>),
    /// Digest, record, the minute of the key's last use (0 if unknown), and the record's frame.
    Record(Digest, Box<Record>, u32, Vec<u8>),
    End(Summary),
}

impl<'s, R: Read> Reader<'s, R> {
    /// Reads up to the scope names.
    pub(crate) fn open(from: R, seals: &'s Seals) -> Result<Self, Error> {
        let mut from = In::begin(from, &seals.backup)?;
        let Block::Value(Kind::Meta, frame) = from.block()? else { return Err(disordered()) };
        let meta =
            codec::decode_meta(&frame, &seals.meta, seals.pepper_check).map_err(of_backup)?;
        let mut next = from.block()?;
        let (mut audit_start, mut audit_start_frame) = (AuditStart::default(), None);
        if let Block::Value(Kind::AuditStart, frame) = next {
            audit_start = codec::decode_audit_start(&frame, &seals.meta).map_err(of_backup)?;
            (audit_start_frame, next) = (Some(frame), from.block()?);
        }
        let mut found = meta.mark.before(&audit_start);
        let mut names = Vec::new();
        let after_names = loop {
            match next {
                Block::Value(Kind::Scope, frame) => {
                    let number = u8::try_from(names.len()).map_err(|_| disordered())?;
                    found.add(
                        codec::frame_hash(&frame, DbKey::Scope(number), &seals.frame)
                            .map_err(of_backup)?,
                    );
                    found.scopes += 1;
                    let scope = codec::decode_scope(&frame, number, &seals.frame);
                    names.push(scope.map_err(of_backup)?);
                    next = from.block()?;
                }
                other => break other,
            }
        };
        let catalogue = Catalogue::new(names.clone(), None)?;
        Ok(Self {
            from,
            seals,
            meta,
            audit_start,
            audit_start_frame,
            names,
            catalogue,
            found,
            last_digest: None,
            held: Some(after_names),
        })
    }

    /// The meta record.
    pub(crate) fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The frame of the audit start, if the audit log was pruned.
    pub(crate) fn audit_start_frame(&self) -> Option<&[u8]> {
        self.audit_start_frame.as_deref()
    }

    /// The number of entries and records.
    pub(crate) fn values(&self) -> u64 {
        let Mark { sequence, records, .. } = self.meta.mark;
        sequence.saturating_sub(self.audit_start.through).saturating_add(records)
    }

    /// The scope names, in the order of their numbers.
    pub(crate) fn names(&self) -> &[NumberedScope] {
        &self.names
    }

    /// Returns the next value: entries, then records, then the end once everything was verified.
    pub(crate) fn next(&mut self) -> Result<Item, Error> {
        let block = match self.held.take() {
            Some(block) => block,
            None => self.from.block()?,
        };
        match block {
            Block::Value(Kind::Entry, frame) if self.found.records == 0 => self.entry(frame),
            Block::Value(Kind::Record, payload) => self.record(payload),
            Block::Value(..) => Err(disordered()),
            Block::Trailer(trailer) => {
                let Mark { sequence, records, head, .. } = self.found;
                let ends_right =
                    (trailer.sequence, trailer.records, trailer.head) == (sequence, records, head);
                if self.found != self.meta.mark || !ends_right {
                    return Err(Error::bad_backup("it does not hold what it should"));
                }
                Ok(Item::End(self.summary(trailer.taken)))
            }
        }
    }

    fn entry(&mut self, frame: Vec<u8>) -> Result<Item, Error> {
        let sequence = self.found.sequence + 1;
        let (head, seal) = (&self.found.head, &self.seals.audit);
        let (entry, head) =
            codec::decode_entry(&frame, sequence, head, seal, self.catalogue).map_err(of_backup)?;
        (self.found.sequence, self.found.head) = (sequence, head);
        Ok(Item::Entry(Box::new(entry), frame))
    }

    fn record(&mut self, mut payload: Vec<u8>) -> Result<Item, Error> {
        let (digest, rest) = payload.split_first_chunk::<32>().ok_or_else(disordered)?;
        let minute = u32::from_le_bytes(*rest.first_chunk().ok_or_else(disordered)?);
        let digest = Digest::from_bytes(*digest);
        // The digests ascend, so each occurs once.
        if self.last_digest.is_some_and(|last| last.as_bytes() >= digest.as_bytes()) {
            return Err(disordered());
        }
        let frame = payload.split_off(36);
        let (record, hash) =
            codec::decode_record(&frame, digest, &self.seals.frame, self.catalogue)
                .map_err(of_backup)?;
        self.found.add(hash);
        self.found.records += 1;
        self.last_digest = Some(digest);
        Ok(Item::Record(digest, Box::new(record), minute, frame))
    }

    fn summary(&self, taken: Timestamp) -> Summary {
        Summary {
            taken,
            sequence: self.found.sequence,
            records: self.found.records,
            bytes: self.from.bytes,
        }
    }
}

/// Verifies a backup from its beginning to its end.
pub(crate) fn verify(
    from: impl Read,
    seals: &Seals,
    mut report: impl FnMut(Progress),
) -> Result<Summary, Error> {
    let mut reader = Reader::open(from, seals)?;
    let mut progress = Progress::of(reader.values());
    loop {
        if let Item::End(summary) = reader.next()? {
            return Ok(summary);
        }
        progress.count(&mut report);
    }
}

fn disordered() -> Error {
    Error::bad_backup("its parts are not in order")
}

/// Reports damage in a backup as such, not as damage of a store.
fn of_backup(error: Error) -> Error {
    match error {
        Error::Damaged(what) => Error::BadBackup(what),
        other => other,
    }
}
