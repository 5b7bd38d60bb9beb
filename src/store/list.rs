//! Pages of records: filters, orders and totals.

mod token;

pub use crate::index::{Sort, SortBy};

use self::token::Token;
use super::core::Core;
use crate::{
    error::{Error, Field},
    id::KeyId,
    index::{Cursor, Index, RecordFilter, Search, folded},
    record::{Actor, Record},
    scope::Scope,
    secret::{Prefix, Secret},
    time::Timestamp,
};
use std::{sync::Arc, time::Duration};

const DEFAULT_PAGE_SIZE: usize = 50;
const MAX_PAGE_SIZE: usize = 200;

/// Which keys to list, and in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListQuery {
    /// Only active or only inactive ones.
    pub active: Option<bool>,
    /// Only those that are entitled to this scope.
    pub scope: Option<Scope>,
    /// Only those of this owner; `Some(None)`: only those without an owner.
    pub owner: Option<Option<String>>,
    /// Only those that this actor created.
    pub creator: Option<Actor>,
    /// Only those whose expiry has come, or only the others.
    pub expired: Option<bool>,
    /// Only those that another key replaced, or only the others.
    pub replaced: Option<bool>,
    /// Only active keys that expire within this time from now. Keys that another key replaced are not among
    /// them.
    pub expiring_within: Option<Duration>,
    /// Only those that were created before this time and not used since, to the minute.
    pub unused_since: Option<Timestamp>,
    /// Only those that were used, or only those that never were.
    pub used: Option<bool>,
    /// Only those that were created at this time or later.
    pub created_from: Option<Timestamp>,
    /// Only those that were created before this time.
    pub created_until: Option<Timestamp>,
    /// Only those whose name or id contains this text. The comparison ignores letter case and uses
    /// Unicode compatibility equivalence: `strasse` finds `Straße`. A whole id, the beginning `pcl_…` of a
    /// key's text and a whole key select the key with that id; of a whole key, only its id is used.
    pub text: Option<String>,
    /// The order.
    pub sort: Sort,
    /// Whether to count all keys that the filters select, which reads every key.
    pub count_all: bool,
    /// The page size: 1 to 200; the default is 50.
    pub page_size: Option<usize>,
    /// The token of the page before. Filters and order must be those of that page; the size may differ.
    pub page_token: Option<String>,
}

impl ListQuery {
    /// Selects only active or only inactive keys.
    #[must_use]
    pub fn with_active(self, active: bool) -> Self {
        Self { active: Some(active), ..self }
    }

    /// Selects keys that are entitled to this scope.
    #[must_use]
    pub fn with_scope(self, scope: Scope) -> Self {
        Self { scope: Some(scope), ..self }
    }

    /// Selects the keys of this owner.
    #[must_use]
    pub fn with_owner(self, owner: impl Into<String>) -> Self {
        Self { owner: Some(Some(owner.into())), ..self }
    }

    /// Selects the keys without an owner.
    #[must_use]
    pub fn without_owner(self) -> Self {
        Self { owner: Some(None), ..self }
    }

    /// Selects the keys that this actor created.
    #[must_use]
    pub fn with_creator(self, creator: Actor) -> Self {
        Self { creator: Some(creator), ..self }
    }

    /// Selects keys whose expiry has come, or only the others.
    #[must_use]
    pub fn with_expired(self, expired: bool) -> Self {
        Self { expired: Some(expired), ..self }
    }

    /// Selects keys that another key replaced, or only the others.
    #[must_use]
    pub fn with_replaced(self, replaced: bool) -> Self {
        Self { replaced: Some(replaced), ..self }
    }

    /// Selects active keys that expire within this time and were not replaced.
    #[must_use]
    pub fn expiring_within(self, span: Duration) -> Self {
        Self { expiring_within: Some(span), ..self }
    }

    /// Selects keys that were created before this time and not used since.
    #[must_use]
    pub fn unused_since(self, since: Timestamp) -> Self {
        Self { unused_since: Some(since), ..self }
    }

    /// Selects keys that were used, or only those that never were.
    #[must_use]
    pub fn with_used(self, used: bool) -> Self {
        Self { used: Some(used), ..self }
    }

    /// Selects keys that were created at this time or later.
    #[must_use]
    pub fn created_from(self, from: Timestamp) -> Self {
        Self { created_from: Some(from), ..self }
    }

    /// Selects keys that were created before this time.
    #[must_use]
    pub fn created_until(self, until: Timestamp) -> Self {
        Self { created_until: Some(until), ..self }
    }

    /// Selects keys whose name or id contains this text.
    #[must_use]
    pub fn with_text(self, text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..self }
    }

    /// Sets the order.
    #[must_use]
    pub fn sorted_by(self, by: SortBy, descending: bool) -> Self {
        Self { sort: Sort { by, descending }, ..self }
    }

    /// Counts all keys that the filters select.
    #[must_use]
    pub fn with_total(self) -> Self {
        Self { count_all: true, ..self }
    }

    /// Sets the page size.
    #[must_use]
    pub fn with_page_size(self, size: usize) -> Self {
        Self { page_size: Some(size), ..self }
    }

    /// Continues after the page that returned this token.
    #[must_use]
    pub fn with_page_token(self, token: impl Into<String>) -> Self {
        Self { page_token: Some(token.into()), ..self }
    }
}

/// A page of records.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Page {
    /// The records in the order of the query.
    pub records: Vec<Arc<Record>>,
    /// The token of the next page; `None` on the last page. It stays valid while keys are created and
    /// deleted. A key whose value in the order changes between two pages may be on both or on neither.
    pub next_page_token: Option<String>,
    /// The number of all keys that the filters select, if the query asks for it.
    pub total: Option<usize>,
}

/// A query whose text is prepared for the search.
struct Prepared<'q> {
    query: &'q ListQuery,
    text: Option<String>,
    id: Option<KeyId>,
    now: Timestamp,
}

impl<'q> Prepared<'q> {
    fn new(query: &'q ListQuery, prefix: Prefix, now: Timestamp) -> Self {
        let text = query.text.as_deref().map(str::trim).filter(|text| !text.is_empty());
        let id = text.and_then(|text| named_id(text, prefix));
        let text = match (id, text) {
            (Some(id), _) => Some(id.to_string().to_ascii_lowercase()),
            // A key of another store is on no line, and the token of the page must not depend on it.
            (None, Some(text)) if Secret::occurs_in(text) => Some("\n".to_owned()),
            (None, Some(text)) => Some(match after_prefix(text, prefix) {
                Some(digits) => format!("key_{}", folded(digits)),
                None => folded(text).into_owned(),
            }),
            (None, None) => None,
        };
        Self { query, text, id, now }
    }

    fn filter(&self) -> RecordFilter<'_> {
        let ListQuery { expiring_within, unused_since, .. } = self.query;
        RecordFilter {
            active: self.query.active,
            scope: self.query.scope.as_ref(),
            owner: self.query.owner.as_ref().map(Option::as_deref),
            creator: self.query.creator,
            id: self.id,
            expired: self.query.expired,
            replaced: self.query.replaced,
            expires_by: expiring_within.map(|span| {
                let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
                Timestamp::from_millis(self.now.as_millis().saturating_add(millis))
            }),
            unused_since: *unused_since,
            used: self.query.used,
            created_from: self.query.created_from,
            created_until: self.query.created_until,
            now: self.now,
        }
    }
}

/// The id in a text that names one key.
fn named_id(text: &str, prefix: Prefix) -> Option<KeyId> {
    let of_hint = |digits: &str| format!("key_{}", digits.trim_end_matches('_')).parse().ok();
    let hint = || after_prefix(text, prefix).and_then(of_hint);
    text.parse().ok().or_else(|| prefix.id_within(text)).or_else(hint)
}

/// The part of a hint after the prefix.
fn after_prefix(text: &str, prefix: Prefix) -> Option<&str> {
    text.strip_prefix(prefix.as_str())?.strip_prefix('_')
}

pub(super) fn page(core: &Core, prefix: Prefix, query: &ListQuery) -> Result<Page, Error> {
    let size = query.page_size.unwrap_or(DEFAULT_PAGE_SIZE);
    if !(1..=MAX_PAGE_SIZE).contains(&size) {
        return Err(Error::invalid(Field::PageSize, "must be 1 to 200"));
    }
    let prepared = Prepared::new(query, prefix, core.clock.now());
    let tag = token::tag(query, prepared.text.as_deref());
    let token = query.page_token.as_deref();
    let token = token.map(|token| Token::parse(token, query.sort, tag)).transpose()?;
    let search = Search::new(prepared.text.as_deref());
    let (index, filter) = (&core.index, prepared.filter());
    if query.sort == Sort::NEWEST_FIRST {
        let total = query.count_all.then(|| index.select(&search, filter, query.sort, None, 0).1);
        return Ok(Page { total, ..newest(index, token, &search, filter, size, tag) });
    }
    let after = token.map(Token::into_cursor);
    let (mut places, total) = index.select(&search, filter, query.sort, after.as_ref(), size + 1);
    let is_last = places.len() <= size;
    places.truncate(size);
    let next = places.last().filter(|_| !is_last).cloned();
    let records = places.iter().filter_map(|(_, id)| Some(index.get(*id)?.0)).collect();
    let next_page_token = next.map(|place| Token::after(place).format(tag));
    Ok(Page { records, next_page_token, total: query.count_all.then_some(total) })
}

/// A page in the order of creation, which reads no more keys than it needs.
fn newest(
    index: &Index,
    token: Option<Token>,
    search: &Search<'_>,
    filter: RecordFilter<'_>,
    size: usize,
    tag: u64,
) -> Page {
    if filter.used.is_some() || filter.unused_since.is_some() {
        index.refresh_uses();
    }
    let mut place = token.map(Token::into_position);
    let mut records = Vec::new();
    // One record more than the page, to detect the last page. The index is unlocked after each batch, so
    // no revocation waits for a long search.
    while records.len() <= size {
        let (found, next) = index.search(place, search, filter, size + 1 - records.len());
        records.extend(found.into_iter().map(Arc::new));
        place = next;
        if place.is_none() {
            break;
        }
    }
    let is_last = records.len() <= size;
    records.truncate(size);
    let next_page_token = records
        .last()
        .filter(|_| !is_last)
        .map(|last| Token::at(last.created_at, last.id).format(tag));
    Page { records, next_page_token, total: None }
}

/// The number of keys that a query selects.
pub(super) fn count(core: &Core, prefix: Prefix, query: &ListQuery) -> usize {
    let prepared = Prepared::new(query, prefix, core.clock.now());
    let search = Search::new(prepared.text.as_deref());
    core.index.select(&search, prepared.filter(), Sort::NEWEST_FIRST, None, 0).1
}

/// The places of all keys that a query selects, oldest first, whatever its order and its page.
pub(super) fn all(core: &Core, prefix: Prefix, query: &ListQuery) -> Vec<KeyId> {
    let prepared = Prepared::new(query, prefix, core.clock.now());
    let search = Search::new(prepared.text.as_deref());
    let oldest_first = Sort { by: SortBy::CreatedAt, descending: false };
    let places = core.index.select(&search, prepared.filter(), oldest_first, None, usize::MAX).0;
    places.into_iter().map(|(_, id): Cursor<'_>| id).collect()
}

/// Returns the records of all keys. The index is unlocked after each batch.
pub(super) fn records(index: &Index) -> impl Iterator<Item = Arc<Record>> {
    let wanted = RecordFilter::default();
    let mut next = Some(None);
    std::iter::from_fn(move || {
        let (batch, position) = index.search(next?, &Search::new(None), wanted, MAX_PAGE_SIZE);
        next = position.map(Some);
        Some(batch)
    })
    .flatten()
    .map(Arc::new)
}
