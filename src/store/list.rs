//! Pages of records, newest first.

use crate::{
    base62,
    error::{Error, Field},
    id::{ID_DIGITS, KeyId},
    index::{Index, Search, Wanted},
    record::Record,
    scope::Scope,
    time::Timestamp,
};
use std::sync::Arc;

const DEFAULT_PAGE: usize = 50;
const LARGEST_PAGE: usize = 200;
const TIME_DIGITS: usize = 11;

/// Which keys to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Only active or only inactive ones.
    pub active: Option<bool>,
    /// Only those that are entitled to this scope.
    pub scope: Option<Scope>,
    /// Only those whose name or id contains this text, in any letter case.
    pub text: Option<String>,
    /// How many at most: 1 to 200, 50 unless said.
    pub page_size: Option<usize>,
    /// Where the last page ended.
    pub page_token: Option<String>,
}

/// Some records, and how to go on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Page {
    /// The records, newest first.
    pub records: Vec<Arc<Record>>,
    /// Gives the next page; `None` on the last one. It stays good while keys are made and deleted.
    pub next_page_token: Option<String>,
}

pub(super) fn page(index: &Index, query: &ListQuery) -> Result<Page, Error> {
    let size = query.page_size.unwrap_or(DEFAULT_PAGE);
    if !(1..=LARGEST_PAGE).contains(&size) {
        return Err(Error::invalid(Field::PageSize, "must be 1 to 200"));
    }
    let mut place = query.page_token.as_deref().map(parse_token).transpose()?;
    let text = query.text.as_deref().map(str::to_lowercase);
    let search = Search::new(text.as_deref());
    let wanted = Wanted { active: query.active, scope: query.scope.as_ref() };
    let mut records = Vec::new();
    // One more than the page has, to know whether it is the last one. The index is let go after
    // each piece, so that no revocation waits for a long search.
    while records.len() <= size {
        let (found, next) = index.look(place, &search, wanted, size + 1 - records.len());
        records.extend(found.into_iter().map(Arc::new));
        place = next;
        if place.is_none() {
            break;
        }
    }
    let is_last = records.len() <= size;
    records.truncate(size);
    let next_page_token = records.last().filter(|_| !is_last).map(|last| token(last));
    Ok(Page { records, next_page_token })
}

fn token(record: &Record) -> String {
    let time: [u8; TIME_DIGITS] = base62::encode(record.created_at.as_millis());
    time.iter().chain(&record.id.digits()).map(|&digit| char::from(digit)).collect()
}

fn parse_token(token: &str) -> Result<(Timestamp, KeyId), Error> {
    let parts =
        token.as_bytes().split_at_checked(TIME_DIGITS).filter(|(_, id)| id.len() == ID_DIGITS);
    parts
        .and_then(|(time, id)| {
            Some((Timestamp::from_millis(base62::decode(time)?), KeyId::from_digits(id)?))
        })
        .ok_or_else(|| {
            Error::invalid(Field::PageToken, "is not one that a page gave; start again without it")
        })
}
