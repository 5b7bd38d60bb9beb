//! The token of a page: the place of the last key, and a tag of the filters and the order.

use super::query::ListQuery;
use crate::{
    base62,
    error::{Error, Field},
    id::{ID_DIGITS, KeyId},
    index::{Cursor, Sort, SortBy, SortValue},
    scope::Scope,
    time::Timestamp,
};
use std::{borrow::Cow, fmt::Write};

const NUMBER_DIGITS: usize = 11;

/// The place after which a page begins. As text: the value, the id and the tag. A number has 11 base62
/// digits, and a name two hexadecimal digits for each byte.
pub(super) struct Token(Cursor<'static>);

impl Token {
    pub(super) fn after(place: Cursor<'static>) -> Self {
        Self(place)
    }

    pub(super) fn at(created_at: Timestamp, id: KeyId) -> Self {
        Self((SortValue::Number(created_at.as_millis()), id))
    }

    pub(super) fn into_cursor(self) -> Cursor<'static> {
        self.0
    }

    /// The place in the order of creation.
    pub(super) fn into_position(self) -> (Timestamp, KeyId) {
        let (value, id) = self.0;
        let millis = match value {
            SortValue::Number(millis) => millis,
            SortValue::Name(_) => 0,
        };
        (Timestamp::from_millis(millis), id)
    }

    pub(super) fn format(&self, tag: u64) -> String {
        let (value, id) = &self.0;
        let mut text = String::new();
        match value {
            SortValue::Number(number) => push(&mut text, &number_digits(*number)),
            SortValue::Name(name) => {
                for byte in name.iter() {
                    let _ = write!(text, "{byte:02x}");
                }
            }
        }
        push(&mut text, &id.digits());
        push(&mut text, &number_digits(tag));
        text
    }

    pub(super) fn parse(token: &str, sort: Sort, tag: u64) -> Result<Self, Error> {
        let refused = |reason: &str| Error::invalid(Field::PageToken, reason);
        let parse = || {
            let bytes = token.as_bytes();
            let (rest, of) = bytes.split_at_checked(bytes.len().checked_sub(NUMBER_DIGITS)?)?;
            let (value, id) = rest.split_at_checked(rest.len().checked_sub(ID_DIGITS)?)?;
            let value = match sort.by {
                SortBy::Name => SortValue::Name(Cow::Owned(bytes_of_hex(value)?)),
                _ => SortValue::Number(number(value)?),
            };
            Some(((value, KeyId::from_digits(id)?), number(of)?))
        };
        // A token of another order may not be readable in this one.
        let of = token.as_bytes().last_chunk::<NUMBER_DIGITS>().and_then(|of| number(of));
        match (parse(), of) {
            (_, None) => Err(refused("is not a token of an earlier page; start again without it")),
            (Some((place, of)), _) if of == tag => Ok(Self(place)),
            (None, Some(of)) if of == tag || token.len() < ID_DIGITS + NUMBER_DIGITS => {
                Err(refused("is not a token of an earlier page; start again without it"))
            }
            _ => Err(refused(
                "belongs to a list with other filters or in another order; repeat those, or start again without it",
            )),
        }
    }
}

fn push(text: &mut String, digits: &[u8]) {
    text.extend(digits.iter().map(|&digit| char::from(digit)));
}

fn number_digits(number: u64) -> [u8; NUMBER_DIGITS] {
    base62::encode(number)
}

fn number(digits: &[u8]) -> Option<u64> {
    (digits.len() == NUMBER_DIGITS).then(|| base62::decode(digits))?
}

fn bytes_of_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    if rest.is_empty() { bytes.collect() } else { None }
}

/// Distinguishes the filters and orders of two lists. It is no secret and protects nothing: a forged token
/// returns no more than a query without a token. `text` is the one that is searched for.
pub(super) fn tag(query: &ListQuery, text: Option<&str>) -> u64 {
    let active = match query.active {
        None => "",
        Some(true) => "active",
        Some(false) => "inactive",
    };
    let scope = query.scope.as_ref().map_or("", Scope::as_str);
    let mut parts: Vec<Cow<'_, str>> =
        vec![active.into(), scope.into(), text.unwrap_or_default().into()];
    // Without a later filter the tag is that of earlier versions, whose replicas may issue the next page.
    parts.extend(query.owner.as_ref().map(|owner| owner.as_deref().unwrap_or("\n").into()));
    let mut later = String::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = write!(later, "\n{name}={value}");
        }
    };
    let time = |at: Option<Timestamp>| at.map(|at| at.as_millis().to_string());
    add("creator", query.creator.map(|creator| creator.to_string()));
    add("expired", query.expired.map(|expired| expired.to_string()));
    add("replaced", query.replaced.map(|replaced| replaced.to_string()));
    add("imported", query.imported.map(|imported| imported.to_string()));
    add("policy", query.exceeds_policy.map(|exceeds| exceeds.to_string()));
    add("expiring", query.expiring_within.map(|span| span.as_millis().to_string()));
    add("unused", time(query.unused_since));
    add("used", query.used.map(|used| used.to_string()));
    add("from", time(query.created_from));
    add("until", time(query.created_until));
    let is_default = query.sort == Sort::NEWEST_FIRST;
    add("sort", (!is_default).then(|| format!("{:?}", query.sort)));
    if !later.is_empty() {
        parts.push(later.into());
    }
    // FNV-1a: replicas of different builds must agree, which std's hasher does not promise.
    let bytes = parts.join("\n").into_bytes();
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
