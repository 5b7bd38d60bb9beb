//! The records by id, in few bytes, and their pending denials. Not on the hot path.
//!
//! Design. A record is one allocation with its encoded bytes, and is decoded on request. Decoding costs
//! less than a request does, while a decoded record needs a reference count and several strings with
//! spare capacity. The rows are in 256 shards by id, so a growing table moves a 256th of them. A row is
//! never removed: a row without a record is the tombstone of its key. The tables contain only the
//! numbers of rows, five bytes each. An id is random, so it is its own hash.

mod lists;

use super::{
    creators::Creators,
    grants::{Grants, Numbers},
    order::{Order, Position, State},
    owners::Owners,
    word::Word,
};
use crate::{
    codec::{self, Head, Known, Resident},
    digest::Digest,
    error::Error,
    id::KeyId,
    imported::Imported,
    record::{Record, Standing},
    time::Timestamp,
};
use hashbrown::HashTable;
use std::{collections::HashMap, hint};

const SHARDS: usize = 256;
/// The records that are read from memory at the same time.
const PREFETCHED_RECORDS: usize = 64;

pub(super) struct Row {
    pub(super) id: KeyId,
    pub(super) digest: Digest,
    /// The last change that was applied.
    applied: u64,
    created_at: Timestamp,
    /// The state of the committed record. `GONE` after its deletion: a tombstone, so an older change
    /// cannot bring the key back.
    pub(super) word: Word,
    record: Box<[u8]>,
}

#[derive(Default)]
pub(super) struct Shard {
    numbers: HashTable<u32>,
    pub(super) rows: Vec<Row>,
}

impl Shard {
    fn row(&self, id: KeyId) -> Option<&Row> {
        self.rows.get(self.place(id)?)
    }

    fn row_mut(&mut self, id: KeyId) -> Option<&mut Row> {
        let place = self.place(id)?;
        self.rows.get_mut(place)
    }

    fn place(&self, id: KeyId) -> Option<usize> {
        let is_its = |number: &u32| self.rows.get(*number as usize).is_some_and(|row| row.id == id);
        self.numbers.find(hash(id), is_its).map(|number| *number as usize)
    }

    /// Adds a row for a new id.
    fn push(&mut self, row: Row) -> Result<(), Error> {
        let number = u32::try_from(self.rows.len())
            .map_err(|_| Error::damaged("it has more keys than there are numbers"))?;
        let id = row.id;
        self.rows.push(row);
        let rows = &self.rows;
        let hash_of = |number: &u32| rows.get(*number as usize).map_or(0, |row| hash(row.id));
        self.numbers.insert_unique(hash(id), number, hash_of);
        Ok(())
    }
}

/// The effect of a committed change.
pub(super) enum ApplyEffect {
    /// None: the change is not newer than the row, or the key was deleted.
    Stale,
    /// Readers see this standing from now on.
    Visible(Option<Standing>),
}

pub(super) struct Directory {
    pub(super) shards: Box<[Shard]>,
    order: Order,
    /// The pending denials of each key, each with the number of its change.
    pending: HashMap<KeyId, Vec<(u64, Standing)>>,
    keys: usize,
    active: usize,
    lasting_roots: usize,
    pub(super) numbers: Numbers,
    owners: Owners,
    creators: Creators,
    /// The kinds of imported keys that the store has or had since it was opened.
    imported_kinds: u8,
}

impl Directory {
    pub(super) fn with_room_for(keys: usize) -> Self {
        let each = keys.div_ceil(SHARDS);
        let shard = || Shard {
            numbers: HashTable::with_capacity(each),
            rows: Vec::with_capacity(each + each / 8),
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            order: Order::default(),
            pending: HashMap::new(),
            keys: 0,
            active: 0,
            lasting_roots: 0,
            numbers: Numbers::default(),
            owners: Owners::default(),
            creators: Creators::default(),
            imported_kinds: 0,
        }
    }

    /// Adds a denial. Returns the digest of the key and the standing that readers see from now on.
    pub(super) fn deny(
        &mut self,
        sequence: u64,
        id: KeyId,
        standing: Standing,
        grants: &Grants,
    ) -> Option<(Digest, Option<Standing>)> {
        let row = self.row(id)?;
        let (digest, applied) = (row.digest, row.applied);
        if sequence > applied {
            self.pending.entry(id).or_default().push((sequence, standing));
        }
        Some((digest, self.visible(id, grants)))
    }

    /// Removes a denial. Returns the digest of the key and the standing that readers see from now on.
    pub(super) fn retract(
        &mut self,
        sequence: u64,
        id: KeyId,
        standing: &Standing,
        grants: &Grants,
    ) -> Option<(Digest, Option<Standing>)> {
        let pending = self.pending.get_mut(&id)?;
        let position =
            pending.iter().position(|(s, denied)| (s, denied) == (&sequence, standing))?;
        pending.remove(position);
        if pending.is_empty() {
            self.pending.remove(&id);
        }
        Some((self.row(id)?.digest, self.visible(id, grants)))
    }

    /// Applies a committed change.
    pub(super) fn apply(
        &mut self,
        sequence: u64,
        id: KeyId,
        digest: Digest,
        record: Option<&Record>,
        grants: &Grants,
    ) -> Result<ApplyEffect, Error> {
        let old = self.row(id);
        if old.is_some_and(|row| sequence <= row.applied || row.word == Word::GONE) {
            return Ok(ApplyEffect::Stale);
        }
        let old = old.map(|row| {
            let owner = codec::resident_head(&row.record).and_then(|head| head.owner);
            let owner = self.owners.find(owner).unwrap_or_default();
            ((row.created_at, id), (row.word, owner))
        });
        let resident = record.map(Resident::of).transpose()?;
        let new = self.put(sequence, id, digest, resident, grants)?;
        match (old, new, record) {
            (Some((position, _)), Some((same, state)), Some(record)) if position == same => {
                self.order.update(position, state, &record.name);
            }
            (old, new, record) => {
                if let Some((position, _)) = old {
                    self.order.remove(position);
                }
                if let (Some((position, state)), Some(record)) = (new, record) {
                    self.order.insert(position, state, &record.name);
                }
            }
        }
        if let Some((_, (word, owner))) = old {
            self.count_out(word, owner, grants);
        }
        if let Some(pending) = self.pending.get_mut(&id) {
            pending.retain(|(pending, _)| *pending > sequence);
            if pending.is_empty() {
                self.pending.remove(&id);
            }
        }
        Ok(ApplyEffect::Visible(self.visible(id, grants)))
    }

    /// Adds a record while the store is opened. Its id is new, and its order is not maintained.
    pub(super) fn load(
        &mut self,
        digest: Digest,
        record: Resident,
        grants: &Grants,
    ) -> Result<Standing, Error> {
        let standing = record.standing.clone();
        self.put(record.revision, record.id, digest, Some(record), grants)?;
        Ok(standing)
    }

    /// Sorts the loaded records. `last_use` returns the minute of the last use of the key with a digest, or 0.
    pub(super) fn sort(&mut self, last_use: impl Fn(&Digest) -> u32) {
        let rows = self.shards.iter().flat_map(|shard| &shard.rows);
        let live = rows.filter(|row| row.word != Word::GONE);
        let mut live: Vec<(Position, &Row)> =
            live.map(|row| ((row.created_at, row.id), row)).collect();
        live.sort_unstable_by_key(|(position, _)| *position);
        let (owners, creators) = (&self.owners, &self.creators);
        self.order = Order::of_sorted(live.chunks(PREFETCHED_RECORDS).flat_map(|batch| {
            // The records are scattered in memory: independent reads overlap their cache misses.
            let firsts = batch.iter().map(|(_, row)| row.record.first());
            hint::black_box(firsts.flatten().fold(0, |all, byte| all ^ byte));
            let last_use = &last_use;
            batch.iter().filter_map(move |(position, row)| {
                let head = codec::resident_head(&row.record)?;
                let state = State {
                    word: row.word,
                    owner: owners.find(head.owner).unwrap_or_default(),
                    creator: creators.find(head.created_by).unwrap_or_default(),
                    is_replaced: head.is_replaced,
                    is_imported: head.is_imported,
                };
                Some((*position, state, last_use(&row.digest), head.name))
            })
        }));
    }

    /// Writes a row and counts its record.
    fn put(
        &mut self,
        sequence: u64,
        id: KeyId,
        digest: Digest,
        record: Option<Resident>,
        grants: &Grants,
    ) -> Result<Option<(Position, State)>, Error> {
        let (mut word, mut bytes, mut new) = (Word::GONE, Box::default(), None);
        if let Some(record) = record {
            word = grants.word(&record.standing, &mut self.numbers);
            if grants.grant(word).is_none_or(|grant| *grant != record.standing.grant) {
                return Err(Error::damaged(
                    "it has more distinct sets of scopes than there are numbers",
                ));
            }
            if record.standing.is_limited() {
                word = word.limited(word.number());
            }
            self.imported_kinds |= record.imported.map_or(0, Imported::bit);
            let head = codec::resident_head(&record.bytes);
            let Head { owner, created_by, is_replaced, is_imported, .. } =
                head.ok_or_else(unreadable)?;
            let (owner, creator) = (self.owners.number(owner), self.creators.number(created_by));
            new =
                Some((record.created_at, State { word, owner, creator, is_replaced, is_imported }));
            bytes = record.bytes;
        }
        let created_at = new.map(|(created_at, _)| created_at);
        let Some(shard) = self.shards.get_mut(shard_number(id)) else { return Ok(None) };
        if let Some(row) = shard.row_mut(id) {
            (row.applied, row.word, row.record) = (sequence, word, bytes);
            row.created_at = created_at.unwrap_or(row.created_at);
        } else {
            let created_at = created_at.unwrap_or_default();
            let (applied, record) = (sequence, bytes);
            shard.push(Row { id, digest, applied, created_at, word, record })?;
        }
        let Some(standing) = grants.standing(word.unlimited()) else { return Ok(None) };
        self.keys += 1;
        self.active += usize::from(standing.active);
        self.lasting_roots += usize::from(standing.is_lasting_root() && !word.is_limited());
        Ok(new.map(|(created_at, state)| {
            self.owners.count_in(state.owner, standing.active);
            ((created_at, id), state)
        }))
    }

    fn count_out(&mut self, word: Word, owner: u32, grants: &Grants) {
        if let Some(standing) = grants.standing(word.unlimited()) {
            self.owners.count_out(owner, standing.active);
            self.keys -= 1;
            self.active -= usize::from(standing.active);
            self.lasting_roots -= usize::from(standing.is_lasting_root() && !word.is_limited());
        }
    }

    pub(super) fn digest_of(&self, id: KeyId) -> Option<Digest> {
        self.row(id).map(|row| row.digest)
    }

    /// The standing that readers see: the committed one restricted by every pending denial.
    pub(super) fn visible(&self, id: KeyId, grants: &Grants) -> Option<Standing> {
        let row = self.row(id)?;
        let mut committed = grants.standing(row.word.unlimited())?;
        if row.word.is_limited() {
            (committed.networks, committed.rate) = codec::resident_limits(&row.record)?;
        }
        let pending = self.pending.get(&id).map_or(&[][..], Vec::as_slice);
        Some(pending.iter().fold(committed, |seen, (_, denied)| seen.meet(denied)))
    }

    pub(super) fn get(&self, id: KeyId, grants: &Grants) -> Option<(Record, Digest)> {
        let row = self.row(id)?;
        let Standing { active, grant, .. } = grants.standing(row.word.unlimited())?;
        let known = Known { id, created_at: row.created_at, active, grant };
        let record = codec::decode_resident(&row.record, known);
        debug_assert!(record.is_some(), "what was encoded can be decoded");
        record.map(|record| (record, row.digest))
    }

    /// The number of keys, and of active keys.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.keys, self.active)
    }

    pub(super) fn count_expired(
        &self,
        from: Position,
        now: Timestamp,
    ) -> (usize, Option<Position>) {
        self.order.count_expired(from, now)
    }

    pub(super) fn lasting_roots(&self) -> usize {
        self.lasting_roots
    }

    pub(super) fn imported_kinds(&self) -> u8 {
        self.imported_kinds
    }

    pub(super) fn owners(&self) -> &Owners {
        &self.owners
    }

    fn row(&self, id: KeyId) -> Option<&Row> {
        self.shards.get(shard_number(id))?.row(id)
    }
}

fn unreadable() -> Error {
    Error::damaged("a record in memory cannot be read")
}

/// The lowest byte selects the shard, so the other bytes select the place within it.
fn hash(id: KeyId) -> u64 {
    id.as_u64().rotate_right(8).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn shard_number(id: KeyId) -> usize {
    usize::try_from(id.as_u64() % SHARDS as u64).unwrap_or(0)
}
