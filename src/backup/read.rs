//! Reading a backup: every value intact, each once, none missing, and nothing else.
//!
//! What comes out of here before the end was reached is intact by its own seal and may still
//! belong to a backup that is found wanting: whoever reads keeps none of it until
//! [`Reader::next`] has said that this is the end.

use super::{
    Summary,
    format::{Block, In, Kind},
};
use crate::{
    audit::AuditEntry,
    codec::{self, AuditStart, Mark, Meta, Place},
    digest::{Digest, Seals},
    error::Error,
    record::Record,
    scope::{Catalogue, Scope},
    time::Timestamp,
};
use std::io::Read;

/// A backup that is being read.
pub(crate) struct Reader<'s, R: Read> {
    from: In<R>,
    seals: &'s Seals,
    meta: Meta,
    floor: AuditStart,
    floor_frame: Option<Vec<u8>>,
    names: Vec<Scope>,
    catalogue: &'static Catalogue,
    /// What was read so far, to be compared with what meta vouches for.
    found: Mark,
    last_digest: Option<Digest>,
    /// The block after the scope names, which ended them.
    held: Option<Block>,
}

/// A value of a backup.
pub(crate) enum Item {
    Entry(Box<AuditEntry>, Vec<u8>),
    /// With the minute of its key's last use; 0 where there is none.
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
        let (mut floor, mut floor_frame) = (AuditStart::default(), None);
        if let Block::Value(Kind::AuditStart, frame) = next {
            floor = codec::decode_audit_start(&frame, &seals.meta).map_err(of_backup)?;
            (floor_frame, next) = (Some(frame), from.block()?);
        }
        let (sequence, head) = (floor.through, floor.head);
        let mut found = Mark { sequence, head, records: 0, scopes: 0, sum: [0; 32], ..meta.mark };
        let mut names = Vec::new();
        let after_names = loop {
            match next {
                Block::Value(Kind::Scope, frame) => {
                    let number = u8::try_from(names.len()).map_err(|_| disordered())?;
                    found.add(
                        codec::frame_hash(&frame, Place::Scope(number), &seals.frame)
                            .map_err(of_backup)?,
                    );
                    found.scopes += 1;
                    let name = codec::decode_scope(&frame, number, &seals.frame);
                    let name = name.map_err(of_backup)?.parse();
                    names.push(name.map_err(|_| Error::bad_backup("a scope name is not one"))?);
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
            floor,
            floor_frame,
            names,
            catalogue,
            found,
            last_digest: None,
            held: Some(after_names),
        })
    }

    /// What vouches for the whole.
    pub(crate) fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Where the trail begins, where something was cut from it.
    pub(crate) fn floor_frame(&self) -> Option<&[u8]> {
        self.floor_frame.as_deref()
    }

    /// How many entries and records there are to come.
    pub(crate) fn values(&self) -> u64 {
        let Mark { sequence, records, .. } = self.meta.mark;
        sequence.saturating_sub(self.floor.through).saturating_add(records)
    }

    /// The scope names, in the order of their numbers.
    pub(crate) fn names(&self) -> &[Scope] {
        &self.names
    }

    /// The next value: entries, then records, then the end once all of it was found right.
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
        let (head, trail) = (&self.found.head, &self.seals.trail);
        let (entry, head) = codec::decode_entry(&frame, sequence, head, trail, self.catalogue)
            .map_err(of_backup)?;
        (self.found.sequence, self.found.head) = (sequence, head);
        Ok(Item::Entry(Box::new(entry), frame))
    }

    fn record(&mut self, mut payload: Vec<u8>) -> Result<Item, Error> {
        let (digest, rest) = payload.split_first_chunk::<32>().ok_or_else(disordered)?;
        let minute = u32::from_le_bytes(*rest.first_chunk().ok_or_else(disordered)?);
        let digest = Digest::from_bytes(*digest);
        // In order, so that each is there once.
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

fn disordered() -> Error {
    Error::bad_backup("its parts are not in order")
}

/// Damage in a backup is not damage of a store.
fn of_backup(error: Error) -> Error {
    match error {
        Error::Damaged(what) => Error::BadBackup(what),
        other => other,
    }
}
