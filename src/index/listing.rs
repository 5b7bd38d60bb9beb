//! Lists and searches of keys. A piece of the order is read under one lock, so no change waits for a whole
//! list.

use super::{
    Index,
    order::{FIRST, Position, Search},
    select::{Cursor, RecordFilter, Selection, Sort, SortBy},
};
use crate::{id::KeyId, record::Record};
use std::sync::atomic::Ordering::Relaxed;

/// The uses that are written to the columns while a change waits.
const USES_AT_ONCE: usize = 512;

impl Index {
    /// Searches some hundred committed records below `position`, newest first. Returns up to `limit` matches,
    /// and the position to continue from; `None` at the end.
    pub(crate) fn search(
        &self,
        position: Option<Position>,
        search: &Search<'_>,
        wanted: RecordFilter<'_>,
        limit: usize,
    ) -> (Vec<Record>, Option<Position>) {
        self.directory.read().search(position, search, wanted, &self.grants, limit)
    }

    /// Returns up to `limit` keys after a cursor, and the number of all keys that fit. Reads all keys.
    pub(crate) fn select(
        &self,
        search: &Search<'_>,
        wanted: RecordFilter<'_>,
        sort: Sort,
        after: Option<&Cursor<'static>>,
        limit: usize,
    ) -> (Vec<Cursor<'static>>, usize) {
        if wanted.reads_uses() || sort.by == SortBy::LastUse {
            self.refresh_uses();
        }
        let mut selection = Selection::new(sort, after, limit, &self.grants);
        let mut from = Some(FIRST);
        while let Some(place) = from {
            let directory = self.directory.read();
            from = directory.select(place, search, wanted, &self.grants, &mut selection);
        }
        let total = selection.total;
        (selection.into_places(), total)
    }

    /// Writes the uses since the last call to the columns that lists read.
    pub(crate) fn refresh_uses(&self) {
        let minute = self.minute();
        // A validation that began in the minute before may record its use late.
        let since = self.noted.load(Relaxed).min(minute).saturating_sub(1);
        let mut segment = 0;
        loop {
            // A segment that is being rebuilt has its uses only when the lock is released.
            let directory = self.directory.read();
            let Some(uses) = self.used_since(since, segment) else { break };
            drop(directory);
            self.note_uses(&uses);
            segment += 1;
        }
        self.uses_are_noted(minute);
    }

    /// Writes some uses to the columns that lists read.
    pub(crate) fn note_uses(&self, uses: &[(KeyId, u32)]) {
        for some in uses.chunks(USES_AT_ONCE) {
            let mut directory = self.directory.write();
            for (id, minute) in some {
                directory.record_use(*id, *minute);
            }
        }
    }

    /// Records that the columns have every use before this minute.
    pub(crate) fn uses_are_noted(&self, minute: u32) {
        self.noted.fetch_max(minute, Relaxed);
    }
}
