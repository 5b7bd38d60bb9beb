//! Lists and searches of keys. A piece of the order is read under one lock, so no change waits for a whole
//! list.

use super::{
    Index,
    order::{FIRST, Position, Search},
    select::{Cursor, RecordFilter, Selection, Sort, SortBy},
    slots::SEGMENTS,
};
use crate::record::Record;

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
        self.directory.read().search(position, search, wanted, &self.slots.grants, limit)
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
        let mut selection = Selection::new(sort, after, limit, &self.slots.grants);
        let mut from = Some(FIRST);
        while let Some(place) = from {
            let directory = self.directory.read();
            from = directory.select(place, search, wanted, &self.slots.grants, &mut selection);
        }
        let total = selection.total;
        (selection.into_places(), total)
    }

    /// Writes the uses of all segments to the columns that lists read.
    pub(crate) fn refresh_uses(&self) {
        for segment in 0..SEGMENTS {
            self.refresh_uses_of(segment);
        }
    }

    /// Writes the uses of one segment to the columns that lists read.
    pub(crate) fn refresh_uses_of(&self, segment: usize) {
        // A segment that is being rebuilt has its uses only when the lock is released.
        let directory = self.directory.read();
        let table = self.slots.table();
        let Some(segment) = table.as_ref().and_then(|table| table.0.get(segment)) else { return };
        let uses = segment.uses_without_columns();
        drop(directory);
        for some in uses.chunks(USES_AT_ONCE) {
            let mut directory = self.directory.write();
            for (at, id, minute) in some {
                directory.record_use(*id, *minute);
                segment.mark_in_columns(*at, *minute);
            }
        }
    }
}
