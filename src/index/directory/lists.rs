//! Lists and searches in the directory.

use super::Directory;
use crate::{
    id::KeyId,
    index::{
        grants::Grants,
        order::{ListedKey, Position, Search},
        select::{Matcher, RecordFilter, Selection},
    },
    record::Record,
};

impl Directory {
    /// Returns up to `limit` of the next keys below `position`, newest first, and the position to continue
    /// from; `None` at the end.
    pub(in crate::index) fn search(
        &self,
        position: Option<Position>,
        search: &Search<'_>,
        wanted: RecordFilter<'_>,
        grants: &Grants,
        limit: usize,
    ) -> (Vec<Record>, Option<Position>) {
        let Some(mut matcher) = self.matcher(wanted, grants) else { return (Vec::new(), None) };
        let (ids, next) =
            self.order.search(position, search, |key: &ListedKey<'_>| matcher.fits(key), limit);
        (ids.into_iter().filter_map(|id| Some(self.get(id, grants)?.0)).collect(), next)
    }

    /// Offers the keys of one piece to a selection. Returns the position to continue from; `None` at the end.
    pub(in crate::index) fn select(
        &self,
        from: Position,
        search: &Search<'_>,
        wanted: RecordFilter<'_>,
        grants: &Grants,
        selection: &mut Selection<'_>,
    ) -> Option<Position> {
        let mut matcher = self.matcher(wanted, grants)?;
        self.order.scan(from, search, |key| {
            if matcher.fits(&key) {
                selection.offer(&key);
            }
        })
    }

    /// Records that a key was used in this minute, for filters and orders by last use.
    pub(in crate::index) fn record_use(&mut self, id: KeyId, minute: u32) {
        if let Some(created_at) = self.row(id).map(|row| row.created_at) {
            self.order.record_use((created_at, id), minute);
        }
    }

    fn matcher<'d>(&self, wanted: RecordFilter<'d>, grants: &'d Grants) -> Option<Matcher<'d>> {
        let owner = match wanted.owner {
            // No key has or had an owner without a number.
            Some(owner) => Some(self.owners.find(owner)?),
            None => None,
        };
        let creator = match wanted.creator {
            Some(creator) => Some(self.creators.find(creator)?),
            None => None,
        };
        Some(Matcher::new(wanted, owner, creator, grants))
    }
}
