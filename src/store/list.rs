//! Pages of records, newest first.

use crate::{
    base62,
    error::{Error, Field},
    id::{ID_DIGITS, KeyId},
    index::{Index, RecordFilter, Search, folded},
    record::Record,
    scope::Scope,
    time::Timestamp,
};
use std::sync::Arc;

const DEFAULT_PAGE_SIZE: usize = 50;
const MAX_PAGE_SIZE: usize = 200;
const NUMBER_DIGITS: usize = 11;

/// Which keys to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListQuery {
    /// Only active or only inactive ones.
    pub active: Option<bool>,
    /// Only those that are entitled to this scope.
    pub scope: Option<Scope>,
    /// Only those of this owner; `Some(None)`: only those without an owner.
    pub owner: Option<Option<String>>,
    /// Only those whose name or id contains this text. The comparison ignores letter case and uses
    /// Unicode compatibility equivalence: `strasse` finds `Straße`.
    pub text: Option<String>,
    /// The page size: 1 to 200; the default is 50.
    pub page_size: Option<usize>,
    /// The token of the page before. The filters must be those of that page; the size may differ.
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

    /// Selects keys whose name or id contains this text.
    #[must_use]
    pub fn with_text(self, text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..self }
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
    /// The records, newest first.
    pub records: Vec<Arc<Record>>,
    /// The token of the next page; `None` on the last page. It stays valid while keys are created and
    /// deleted.
    pub next_page_token: Option<String>,
}

pub(super) fn page(index: &Index, query: &ListQuery) -> Result<Page, Error> {
    let size = query.page_size.unwrap_or(DEFAULT_PAGE_SIZE);
    if !(1..=MAX_PAGE_SIZE).contains(&size) {
        return Err(Error::invalid(Field::PageSize, "must be 1 to 200"));
    }
    let text = query.text.as_deref().filter(|text| !text.is_empty()).map(folded);
    let filter = filter_tag(query, text.as_deref());
    let token = query.page_token.as_deref();
    let mut place = token.map(|token| parse_token(token, filter)).transpose()?;
    let search = Search::new(text.as_deref());
    let owner = query.owner.as_ref().map(Option::as_deref);
    let wanted = RecordFilter { active: query.active, scope: query.scope.as_ref(), owner };
    let mut records = Vec::new();
    // One record more than the page, to detect the last page. The index is unlocked after each batch, so
    // no revocation waits for a long search.
    while records.len() <= size {
        let (found, next) = index.search(place, &search, wanted, size + 1 - records.len());
        records.extend(found.into_iter().map(Arc::new));
        place = next;
        if place.is_none() {
            break;
        }
    }
    let is_last = records.len() <= size;
    records.truncate(size);
    let next_page_token = records.last().filter(|_| !is_last).map(|last| token_after(last, filter));
    Ok(Page { records, next_page_token })
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

/// Distinguishes the filters of two lists. It is no secret and protects nothing: a forged token returns
/// no more than a query without a token.
fn filter_tag(query: &ListQuery, text: Option<&str>) -> u64 {
    let active = match query.active {
        None => "",
        Some(true) => "active",
        Some(false) => "inactive",
    };
    let scope = query.scope.as_ref().map_or("", Scope::as_str);
    // FNV-1a: replicas of different builds must agree, which std's hasher does not promise.
    let mut parts = vec![active, scope, text.unwrap_or_default()];
    // Without this filter the tag is that of earlier versions, whose replicas may issue the next page.
    parts.extend(query.owner.as_ref().map(|owner| owner.as_deref().unwrap_or("\n")));
    let bytes = parts.join("\n").into_bytes();
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn token_after(record: &Record, filter: u64) -> String {
    let time: [u8; NUMBER_DIGITS] = base62::encode(record.created_at.as_millis());
    let filter: [u8; NUMBER_DIGITS] = base62::encode(filter);
    time.iter().chain(&record.id.digits()).chain(&filter).map(|&digit| char::from(digit)).collect()
}

fn parse_token(token: &str, filter: u64) -> Result<(Timestamp, KeyId), Error> {
    let refused = |reason: &str| Error::invalid(Field::PageToken, reason);
    let parse = || {
        let (time, rest) = token.as_bytes().split_at_checked(NUMBER_DIGITS)?;
        let (id, filter) = rest.split_at_checked(ID_DIGITS)?;
        let filter = (filter.len() == NUMBER_DIGITS).then(|| base62::decode(filter))??;
        let time = Timestamp::from_millis(base62::decode(time)?);
        Some((time, KeyId::from_digits(id)?, filter))
    };
    let (time, id, of) = parse()
        .ok_or_else(|| refused("is not a token of an earlier page; start again without it"))?;
    if of != filter {
        return Err(refused(
            "belongs to a list with other filters; repeat those filters, or start again without it",
        ));
    }
    Ok((time, id))
}
