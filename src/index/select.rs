//! Which keys a list has, and in which order: a filter over the columns, and the first keys after a cursor.
//!
//! A list in another order than that of creation is one pass over all keys, which keeps only the keys of the
//! page. Rejected: a sorted index for each order, which every change and every use would have to maintain.

use super::{
    grants::Grants,
    order::{ListedKey, State},
    word::Word,
};
use crate::{
    id::KeyId,
    policy::Policy,
    record::{Actor, Expiry},
    scope::Scope,
    time::Timestamp,
};
use std::{borrow::Cow, cmp::Ordering, collections::BinaryHeap};

/// The filter of a list. A field that is `None` selects all keys.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RecordFilter<'q> {
    pub(crate) active: Option<bool>,
    pub(crate) scope: Option<&'q Scope>,
    /// `Some(None)`: only keys without an owner.
    pub(crate) owner: Option<Option<&'q str>>,
    pub(crate) creator: Option<Actor>,
    pub(crate) id: Option<KeyId>,
    pub(crate) expired: Option<bool>,
    pub(crate) replaced: Option<bool>,
    pub(crate) imported: Option<bool>,
    /// Whether a key exceeds this policy.
    pub(crate) exceeds: Option<(Policy, bool)>,
    /// Only active keys that were not replaced and expire after `now` and not after this time.
    pub(crate) expires_by: Option<Timestamp>,
    /// Only keys that were created before this time and not used since.
    pub(crate) unused_since: Option<Timestamp>,
    /// Whether a use is known.
    pub(crate) used: Option<bool>,
    pub(crate) created_from: Option<Timestamp>,
    /// Exclusive.
    pub(crate) created_until: Option<Timestamp>,
    pub(crate) now: Timestamp,
}

impl RecordFilter<'_> {
    /// Whether it reads the last uses.
    pub(super) fn reads_uses(&self) -> bool {
        self.unused_since.is_some() || self.used.is_some()
    }
}

/// A filter for the keys of one piece.
pub(super) struct Matcher<'d> {
    wanted: RecordFilter<'d>,
    owner: Option<u32>,
    creator: Option<u32>,
    grants: &'d Grants,
    /// The last word, and whether it fits: neighbours mostly have the same one.
    last: (Word, bool),
}

impl<'d> Matcher<'d> {
    /// `owner` and `creator` are the numbers of those in the filter.
    pub(super) fn new(
        wanted: RecordFilter<'d>,
        owner: Option<u32>,
        creator: Option<u32>,
        grants: &'d Grants,
    ) -> Self {
        Self { wanted, owner, creator, grants, last: (Word::GONE, false) }
    }

    pub(super) fn fits(&mut self, key: &ListedKey<'_>) -> bool {
        let State { word, owner, creator, is_replaced, is_imported } = key.state;
        let (created_at, id) = key.position;
        let wanted = &self.wanted;
        let fits = self.owner.is_none_or(|wanted| wanted == owner)
            && self.creator.is_none_or(|wanted| wanted == creator)
            && wanted.id.is_none_or(|wanted| wanted == id)
            && wanted.replaced.is_none_or(|replaced| replaced == is_replaced)
            && wanted.expires_by.is_none_or(|_| !is_replaced)
            && wanted.imported.is_none_or(|imported| imported == is_imported)
            && wanted.used.is_none_or(|used| used == (key.last_use > 0))
            && wanted.created_from.is_none_or(|from| created_at >= from)
            && wanted.created_until.is_none_or(|until| created_at < until)
            && wanted
                .unused_since
                .is_none_or(|since| created_at < since && key.last_use < since.as_minutes());
        fits && self.word_fits(word)
    }

    fn word_fits(&mut self, word: Word) -> bool {
        if self.last.0 != word {
            let wanted = &self.wanted;
            let fits = self.grants.standing(word.unlimited()).is_some_and(|standing| {
                let has_expired = standing.expiry.has_come(wanted.now);
                wanted.active.is_none_or(|active| standing.active == active)
                    && wanted.scope.is_none_or(|scope| standing.grant.allows(scope))
                    && wanted.expired.is_none_or(|expired| has_expired == expired)
                    && wanted.exceeds.is_none_or(|(policy, exceeds)| {
                        policy.is_exceeded_by(&standing.grant, standing.expiry, wanted.now)
                            == exceeds
                    })
                    && wanted.expires_by.is_none_or(|end| {
                        standing.active && !has_expired && standing.expiry.has_come(end)
                    })
            });
            self.last = (word, fits);
        }
        self.last.1
    }

    fn expiry(grants: &Grants, word: Word) -> u64 {
        match grants.standing(word.unlimited()).map(|standing| standing.expiry) {
            Some(Expiry::At(end)) => end.as_secs(),
            _ => u64::MAX,
        }
    }
}

/// The order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SortBy {
    /// By the time of creation.
    CreatedAt,
    /// By name, without letter case and in one Unicode spelling.
    Name,
    /// By the minute of the last use. A key that was never used is the first.
    LastUse,
    /// By expiry. A key that never expires is the last.
    Expiry,
}

/// The order of a list, and its direction. Keys with equal values are in the order of their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// The value that decides.
    pub by: SortBy,
    /// Whether the greatest value comes first.
    pub descending: bool,
}

impl Sort {
    /// Newest first.
    pub const NEWEST_FIRST: Self = Self { by: SortBy::CreatedAt, descending: true };
}

impl Default for Sort {
    /// Newest first.
    fn default() -> Self {
        Self::NEWEST_FIRST
    }
}

/// The value of a key that a list is sorted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SortValue<'v> {
    Number(u64),
    Name(Cow<'v, [u8]>),
}

/// The place of a key in a sorted list.
pub(crate) type Cursor<'v> = (SortValue<'v>, KeyId);

/// The first keys after a cursor, and the number of all keys that fit.
pub(crate) struct Selection<'s> {
    sort: Sort,
    after: Option<&'s Cursor<'static>>,
    limit: usize,
    grants: &'s Grants,
    /// The keys that were found so far; the last of the page is the greatest.
    found: BinaryHeap<Candidate>,
    pub(crate) total: usize,
}

struct Candidate {
    place: Cursor<'static>,
    descending: bool,
}

impl<'s> Selection<'s> {
    pub(super) fn new(
        sort: Sort,
        after: Option<&'s Cursor<'static>>,
        limit: usize,
        grants: &'s Grants,
    ) -> Self {
        Self { sort, after, limit, grants, found: BinaryHeap::new(), total: 0 }
    }

    /// Counts a key that fits, and keeps it if it is among the first.
    pub(super) fn offer(&mut self, key: &ListedKey<'_>) {
        self.total += 1;
        let value = match self.sort.by {
            SortBy::CreatedAt => SortValue::Number(key.position.0.as_millis()),
            SortBy::Name => SortValue::Name(Cow::Borrowed(key.name)),
            SortBy::LastUse => SortValue::Number(key.last_use.into()),
            SortBy::Expiry => SortValue::Number(Matcher::expiry(self.grants, key.state.word)),
        };
        let place = (value, key.position.1);
        let descending = self.sort.descending;
        if self.after.is_some_and(|after| in_order(&place, after, descending).is_le()) {
            return;
        }
        if self.found.len() < self.limit {
            self.found.push(Candidate { place: owned(place), descending });
        } else if let Some(mut last) = self.found.peek_mut()
            && in_order(&place, &last.place, descending).is_lt()
        {
            *last = Candidate { place: owned(place), descending };
        }
    }

    /// The keys in their order.
    pub(crate) fn into_places(self) -> Vec<Cursor<'static>> {
        self.found.into_sorted_vec().into_iter().map(|found| found.place).collect()
    }
}

fn owned((value, id): Cursor<'_>) -> Cursor<'static> {
    let value = match value {
        SortValue::Number(number) => SortValue::Number(number),
        SortValue::Name(name) => SortValue::Name(Cow::Owned(name.into_owned())),
    };
    (value, id)
}

fn in_order(one: &Cursor<'_>, other: &Cursor<'_>, descending: bool) -> Ordering {
    let order = one.cmp(other);
    if descending { order.reverse() } else { order }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        in_order(&self.place, &other.place, self.descending)
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}
