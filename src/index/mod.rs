//! The index: all keys in memory, the authority on which key is accepted.
//!
//! Design. Readers and the writer share one table of slots of atomics. The state of a slot (active,
//! expiry, grant) is one word. So a revocation is one store, and a reader sees all of one state or all of
//! another. The table has 256 segments, selected by digest. A full segment is rebuilt beside the old one
//! and swapped in, so the table grows by a 256th of the keys at a time. Only a swap needs the
//! locks. There are 64 locks, each in its own cache line and with its own pointer to the table. A reader
//! takes the lock of its thread's stripe, whose cache line stays with its core. The writer takes each
//! lock in turn, only to swap.
//!
//! Rejected:
//! - One `RwLock` and shards by digest. Readers compete for the cache line of the lock: two threads with one
//!   busy key ran at 0.2–0.4 times the speed of one thread.
//! - An `Arc` in each slot. Its count is such a cache line as well.
//! - A copy-on-write map. A revocation costs a rebuild.
//! - A cache from header to key. It keeps the secret, or a forgeable tag of it, in memory.
//!
//! The last uses are apart from the slots. An accepted lookup reads the last use, and writes it once a
//! minute. So two threads with one busy key share no cache line that either of them writes often. The index
//! receives the current minute once a second, so a key that never expires needs no clock.
//!
//! The limits of a key beside its scopes and its expiry, such as its networks, are in a list of its segment:
//! see `limits`. So is the count of the requests of a key with a rate. A key without such limits reads nothing of them.
//!
//! Invariants. Each has tests named `invariant_N_…` in `tests.rs`. Invariants between threads also have
//! models in `models.rs` (shuttle, sequentially consistent) and `orders.rs` (loom, the memory model).
//! 1. A lookup that starts after `deny` or `apply` returned sees it, on every thread.
//!    Models: `invariant_1_lookup_after_a_denial_refuses_while_the_table_grows`,
//!    `returned_denial_is_visible_to_every_later_lookup`.
//! 2. Readers see the committed record restricted by every pending denial, and one whole state. Models:
//!    `invariant_2_…`,
//!    `reader_sees_a_whole_state_with_its_grant`.
//! 3. Changes at or below the one applied to a key alter nothing. Decided under the directory's
//!    lock: `invariant_3_applying_twice_or_out_of_order_alters_nothing`.
//! 4. A deleted key is not found, its slot is not reused before a rebuild, and no reader ever sees
//!    the state of another key. Models: `invariant_4_…`, `reader_that_sees_a_slots_word_sees_its_key`,
//!    `lookup_of_a_deleted_key_sees_its_state_or_its_deletion`.
//! 5. A lookup allocates nothing (`tests/no_allocation.rs`) and takes no lock that is held across I/O:
//!    nothing in this module does I/O.
//! 6. A watch whose key is denied is over when `deny` or `apply` returned, and the task that awaits it
//!    is woken. Models: `invariant_6_…`, `watch_and_concurrent_denial_never_miss_each_other`.
//! 7. A recorded use is not lost when its segment is rebuilt; only accepted keys have uses.
//!    Model: `invariant_7_use_survives_a_concurrent_rebuild`.
//! 8. A reader that sees the word of a limited key sees its limits, and never those of another key or of an
//!    earlier rebuild. Models: `invariant_8_…`, `reader_of_a_limited_key_sees_its_limits`.

mod creators;
mod directory;
mod expired;
mod fold;
mod grants;
mod limits;
mod listing;
mod load;
mod meter;
mod order;
mod owners;
#[cfg(any(test, feature = "cluster"))]
mod replicated;
mod segment;
mod select;
mod slots;
mod watch;
mod word;

pub(crate) use self::fold::folded;
pub use self::select::{Sort, SortBy};
use self::{
    directory::{ApplyEffect, Directory},
    slots::Slots,
    watch::Watches,
    word::Word,
};
pub(crate) use self::{
    load::Loading,
    order::Search,
    owners::OwnerCount,
    select::{Cursor, RecordFilter, SortValue},
};
use crate::{
    clock::Time,
    digest::Digest,
    error::Error,
    id::KeyId,
    origin::Origin,
    principal::Principal,
    record::{Record, Standing},
    refusal::Refusal,
    sync::{
        RwLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Timestamp,
};
use std::{
    net::IpAddr,
    sync::{Arc, atomic::AtomicU8},
    task::Waker,
};
pub use watch::Revocation;

/// All keys of a store.
pub(crate) struct Index {
    slots: Slots,
    /// The records. Every change holds this lock for writing.
    directory: RwLock<Directory>,
    /// The watches on keys. Only changes read them, never a lookup.
    watches: Arc<Watches>,
    /// The kinds of imported keys, for validations.
    imported_kinds: AtomicU8,
    /// The stamp of the uses that are recorded now; only rises.
    stamp: AtomicU32,
}

impl Index {
    pub(crate) fn new() -> Self {
        Self::with_room_for(0)
    }

    fn with_room_for(keys: usize) -> Self {
        Self {
            slots: Slots::with_room_for(keys),
            directory: RwLock::new(Directory::with_room_for(keys)),
            watches: Arc::default(),
            imported_kinds: AtomicU8::new(0),
            stamp: AtomicU32::new(0),
        }
    }

    /// Sets the current minute.
    pub(crate) fn tick(&self, now: Timestamp) {
        let minute = now.as_minutes();
        if self.minute() < minute {
            self.stamp.store(segment::stamp(minute), Ordering::Relaxed);
        }
    }

    /// Returns the current minute.
    #[inline]
    pub(crate) fn minute(&self) -> u32 {
        self.stamp.load(Ordering::Relaxed) >> 1
    }

    /// Accepts the key with this digest if its state allows it now, and records its use.
    #[inline]
    pub(crate) fn admit(
        &self,
        digest: &Digest,
        origin: impl Origin,
        time: impl Time,
    ) -> Result<Principal, Refusal> {
        let stripe = self.slots.stripe().ok_or(Refusal::Unknown)?.read();
        let (segment, id, word, at) = Slots::look_up(&stripe, digest).ok_or(Refusal::Unknown)?;
        let Some(grant) = self.slots.grants.grant(word) else {
            let grant = Slots::check_limited(segment, word, origin, time)?;
            segment.record_use(at, self.stamp.load(Ordering::Relaxed));
            return Ok(Principal::new(id, grant).at(origin.address()));
        };
        word.check(|| time.now())?;
        segment.record_use(at, self.stamp.load(Ordering::Relaxed));
        Ok(Principal::new(id, *grant))
    }

    /// Whether [`admit`](Self::admit) would accept this key. Records no use.
    pub(crate) fn is_valid(
        &self,
        digest: &Digest,
        address: Option<IpAddr>,
        now: impl FnOnce() -> Timestamp,
    ) -> bool {
        let Some(stripe) = self.slots.stripe() else { return false };
        let table = stripe.read();
        let found = Slots::look_up(&table, digest);
        let standing = found.and_then(|(segment, _, word, _)| self.slots.standing(segment, word));
        standing.is_some_and(|standing| standing.check(address, now).is_ok())
    }

    /// Restricts a key to `standing` until the change `sequence` is applied.
    pub(crate) fn deny(&self, sequence: u64, id: KeyId, standing: Standing) {
        let mut directory = self.directory.write();
        let Some((digest, visible)) = directory.deny(sequence, id, standing, &self.slots.grants)
        else {
            return;
        };
        self.slots.publish(digest, visible.as_ref(), &mut directory.numbers);
        let woken = self.watches.notify(id, visible.as_ref());
        drop(directory);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Removes a denial whose change will never be committed.
    pub(crate) fn retract(&self, sequence: u64, id: KeyId, standing: &Standing) {
        let mut directory = self.directory.write();
        if let Some((digest, visible)) =
            directory.retract(sequence, id, standing, &self.slots.grants)
        {
            self.slots.publish(digest, visible.as_ref(), &mut directory.numbers);
        }
    }

    /// Applies a committed change: a record, or its deletion.
    pub(crate) fn apply(
        &self,
        sequence: u64,
        id: KeyId,
        digest: Digest,
        record: Option<&Record>,
    ) -> Result<(), Error> {
        let mut directory = self.directory.write();
        let fingerprint = digest.fingerprint();
        let known = directory.digest_of(id);
        self.check_identity(id, digest, known)?;
        let folded = directory.apply(sequence, id, digest, record, &self.slots.grants)?;
        // Before the key can be found.
        self.imported_kinds.store(directory.imported_kinds(), Ordering::Release);
        let ApplyEffect::Visible(visible) = folded else { return Ok(()) };
        match (known, &visible) {
            (None, Some(standing)) => {
                self.slots.insert(fingerprint, id, standing, &mut directory.numbers);
            }
            (None, None) => {}
            (Some(_), visible) => {
                self.slots.publish(digest, visible.as_ref(), &mut directory.numbers);
            }
        }
        let woken = self.watches.notify(id, visible.as_ref());
        drop(directory);
        woken.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Creates a watch that is over when the key has fewer scopes than at its authentication.
    pub(crate) fn watch(&self, holder: &Principal, now: Timestamp) -> Revocation {
        // Registered before the key is read: see `watch`.
        let watch = Revocation::register(&self.watches, holder, now);
        let directory = self.directory.read();
        watch.see(directory.visible(holder.id(), &self.slots.grants).as_ref());
        watch
    }

    /// The kinds of imported keys that the store has or had since it was opened.
    pub(crate) fn imported_kinds(&self) -> u8 {
        self.imported_kinds.load(Ordering::Acquire)
    }

    /// Returns the id of the key with this digest, unless it was deleted.
    pub(crate) fn id_of(&self, digest: &Digest) -> Option<KeyId> {
        let table = self.slots.stripe()?.read();
        let (_, id, word, _) = Slots::look_up(&table, digest)?;
        (word != Word::GONE).then_some(id)
    }

    /// Whether a key with this id or digest exists or existed since the store was opened.
    pub(crate) fn is_taken(&self, id: KeyId, digest: &Digest) -> bool {
        self.directory.read().digest_of(id).is_some() || self.slots.holds(digest.fingerprint())
    }

    /// Returns the committed record of a key with its digest.
    pub(crate) fn get(&self, id: KeyId) -> Option<(Arc<Record>, Digest)> {
        let (record, digest) = self.directory.read().get(id, &self.slots.grants)?;
        Some((Arc::new(record), digest))
    }

    /// Returns the minute of the last use of a key, if it is known.
    pub(crate) fn last_use(&self, id: KeyId) -> Option<u32> {
        let directory = self.directory.read();
        let fingerprint = directory.digest_of(id)?.fingerprint();
        let table = self.slots.table()?;
        let segment = table.segment(fingerprint)?;
        let (_, word, at) = segment.find(fingerprint)?;
        Some(segment.last_use(at)).filter(|minute| *minute > 0 && word != Word::GONE)
    }

    /// Returns the keys of a segment that were used in this minute or later; `None` after the last segment.
    pub(crate) fn used_since(&self, minute: u32, segment: usize) -> Option<Vec<(KeyId, u32)>> {
        Some(self.slots.table()?.0.get(segment)?.used_since(minute))
    }

    /// Returns the number of committed keys, and of active ones.
    pub(crate) fn count(&self) -> (usize, usize) {
        self.directory.read().count()
    }

    /// Returns how many committed keys an owner has.
    pub(crate) fn count_of_owner(&self, owner: &str) -> OwnerCount {
        self.directory.read().owners().count(owner)
    }

    /// Returns up to `limit` owners of committed keys, in the order of their names.
    pub(crate) fn owners(&self, after: Option<&str>, limit: usize) -> Vec<(Box<str>, OwnerCount)> {
        self.directory.read().owners().page(after, limit)
    }

    /// Returns the number of committed active root keys that never expire.
    pub(crate) fn lasting_roots(&self) -> usize {
        self.directory.read().lasting_roots()
    }

    /// Checks that an id has only one digest, and a fingerprint only one id.
    fn check_identity(
        &self,
        id: KeyId,
        digest: Digest,
        known: Option<Digest>,
    ) -> Result<(), Error> {
        let is_taken = match known {
            Some(known) => known != digest,
            None => self.slots.holds(digest.fingerprint()),
        };
        if is_taken {
            return Err(Error::damaged(format!("{id} meets another key in the index")));
        }
        Ok(())
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.watches.end_all();
    }
}

#[cfg(all(test, shuttle))]
mod models;
#[cfg(all(test, loom))]
mod orders;
#[cfg(test)]
mod figures;
#[cfg(test)]
mod tests;
