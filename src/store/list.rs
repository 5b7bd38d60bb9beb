//! Pages of records: filters, orders and totals.

mod query;
mod token;

pub use self::query::ListQuery;
pub use crate::index::{Sort, SortBy};

use self::token::Token;
use super::core::Core;
use crate::{
    error::{Error, Field},
    id::KeyId,
    index::{Cursor, Index, RecordFilter, Search, folded},
    policy::Policy,
    record::Record,
    secret::{Prefix, Secret},
    time::Timestamp,
};
use std::sync::Arc;

const DEFAULT_PAGE_SIZE: usize = 50;
const MAX_PAGE_SIZE: usize = 200;

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
    exceeds: Option<(Policy, bool)>,
}

impl<'q> Prepared<'q> {
    fn new(core: &Core, prefix: Prefix, query: &'q ListQuery) -> Result<Self, Error> {
        let exceeds = |wanted| Ok::<_, Error>((core.names().policy()?, wanted));
        let exceeds = query.exceeds_policy.map(exceeds).transpose()?;
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
        Ok(Self { query, text, id, now: core.clock.now(), exceeds })
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
            imported: self.query.imported,
            exceeds: self.exceeds,
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
    let prepared = Prepared::new(core, prefix, query)?;
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
pub(super) fn count(core: &Core, prefix: Prefix, query: &ListQuery) -> Result<usize, Error> {
    let prepared = Prepared::new(core, prefix, query)?;
    let search = Search::new(prepared.text.as_deref());
    Ok(core.index.select(&search, prepared.filter(), Sort::NEWEST_FIRST, None, 0).1)
}

/// The places of all keys that a query selects, oldest first, whatever its order and its page.
pub(super) fn all(core: &Core, prefix: Prefix, query: &ListQuery) -> Result<Vec<KeyId>, Error> {
    let prepared = Prepared::new(core, prefix, query)?;
    let search = Search::new(prepared.text.as_deref());
    let oldest_first = Sort { by: SortBy::CreatedAt, descending: false };
    let places = core.index.select(&search, prepared.filter(), oldest_first, None, usize::MAX).0;
    Ok(places.into_iter().map(|(_, id): Cursor<'_>| id).collect())
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
