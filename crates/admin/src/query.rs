//! A request's query, or a body with the same names → typed parameters.

use super::{
    fields::{Fields, is_showable},
    rfc3339,
};
use axum::{
    extract::{Query, rejection::QueryRejection},
    http::StatusCode,
};
use portcullis::{
    Actor, Secret, Store,
    list::{ListQuery, Sort, SortBy},
    web::{FieldError, Problem},
};
use std::{collections::HashSet, str::FromStr, time::Duration};

/// The query of a request, as axum parses it.
pub(crate) type Parameters = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// The names of the parameters of a list of keys.
pub(crate) const LIST: &str = "active, created_by, created_from, created_until, exceeds_policy, expired, expires_within_seconds, imported, owner, page_size, page_token, q, replaced, scope, sort, total, unused_since and used";
/// The names of the filters among them.
pub(crate) const FILTERS: &str = "active, created_by, created_from, created_until, exceeds_policy, expired, expires_within_seconds, imported, owner, q, replaced, scope, unused_since and used";

const BOOLEAN: &str = "must be true or false";
const TIME: &str = "must be a time such as 2030-01-31T12:00:00Z (RFC 3339)";

/// Reads the parameters of a list of keys.
pub(crate) fn list(store: &Store, parameters: Parameters) -> Result<ListQuery, Problem> {
    let mut query = ListQuery::default();
    each(parameters, LIST, |name, value| {
        if name == "q" && Secret::occurs_in(value) {
            return Err(
                "holds an API key, which must not stand in a URL; send it in the body of POST /v1/keys:search, and revoke it if others may have seen it",
            );
        }
        list_parameter(store, &mut query, name, value)
    })?;
    Ok(query)
}

/// Reads the fields of a search, whose names and values are those of the parameters of a list.
pub(crate) fn search(store: &Store, fields: Fields) -> Result<ListQuery, Problem> {
    of_pairs(store, &fields.into_scalars()?)
}

/// Reads parameters of a list that a page of the portal has.
pub(crate) fn of_pairs(store: &Store, pairs: &[(String, String)]) -> Result<ListQuery, Problem> {
    let mut query = ListQuery::default();
    read(pairs, LIST, FieldError::field, |name, value| {
        list_parameter(store, &mut query, name, value)
    })?;
    Ok(query)
}

/// Reads the filters in a field of a body.
pub(crate) fn filter(store: &Store, pairs: &[(String, String)]) -> Result<ListQuery, Problem> {
    let mut query = ListQuery::default();
    let in_filter =
        |name: &str, detail: String| FieldError::field(&format!("filter/{name}"), detail);
    read(pairs, FILTERS, in_filter, |name, value| match name {
        "sort" | "total" | "page_size" | "page_token" => Ok(false),
        _ => list_parameter(store, &mut query, name, value),
    })?;
    Ok(query)
}

fn list_parameter(
    store: &Store,
    query: &mut ListQuery,
    name: &str,
    value: &str,
) -> Result<bool, &'static str> {
    let boolean = || value.parse().map(Some).map_err(|_| BOOLEAN);
    let time = || rfc3339::parse(value).map(Some).ok_or(TIME);
    match name {
        "active" => query.active = boolean()?,
        "expired" => query.expired = boolean()?,
        "replaced" => query.replaced = boolean()?,
        "imported" => query.imported = boolean()?,
        "exceeds_policy" => query.exceeds_policy = boolean()?,
        "used" => query.used = boolean()?,
        "total" => query.count_all = value.parse().map_err(|_| BOOLEAN)?,
        "scope" => {
            let known = store.catalogue().find(value);
            let known =
                known.map_err(|_| "is not a scope of this store; GET /v1/scopes lists them")?;
            query.scope = Some(known.scope.clone());
        }
        "owner" => query.owner = Some(Some(value.to_owned())),
        "created_by" => query.creator = Some(actor(value)?),
        "expires_within_seconds" => {
            let seconds: u32 = number(value, "must be a number of seconds, at most 4294967295")?;
            query.expiring_within = Some(Duration::from_secs(seconds.into()));
        }
        "unused_since" => query.unused_since = time()?,
        "created_from" => query.created_from = time()?,
        "created_until" => query.created_until = time()?,
        "q" => query.text = non_empty(value),
        "sort" => query.sort = sort(value)?,
        "page_size" => query.page_size = Some(number(value, "must be a number from 1 to 200")?),
        "page_token" => query.page_token = non_empty(value),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Parses an actor, as `created_by` of a key has it.
fn actor(text: &str) -> Result<Actor, &'static str> {
    let local = || text.strip_prefix("local:")?.parse().ok().map(Actor::Local);
    match text {
        "host" => Ok(Actor::Host),
        _ => text
            .parse()
            .ok()
            .map(Actor::Key)
            .or_else(local)
            .ok_or("must be the id of a key, local:UID or host"),
    }
}

/// Parses an order: the name of a field, and `-` before it for descending values.
fn sort(text: &str) -> Result<Sort, &'static str> {
    let (name, descending) = match text.strip_prefix('-') {
        Some(name) => (name, true),
        None => (text, false),
    };
    let by = match name {
        "created_at" => SortBy::CreatedAt,
        "name" => SortBy::Name,
        "last_used_at" => SortBy::LastUse,
        "expires_at" => SortBy::Expiry,
        _ => {
            return Err(
                "must be created_at, name, last_used_at or expires_at, with - before it for descending values",
            );
        }
    };
    Ok(Sort { by, descending })
}

/// HTML forms also send parameters that are empty.
fn non_empty(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// Parses a number.
pub(crate) fn number<T: FromStr>(value: &str, expected: &'static str) -> Result<T, &'static str> {
    value.parse().map_err(|_| expected)
}

/// Calls `take` with each parameter; it returns whether it knows the name, or what is wrong with the
/// value. Reports all unknown, repeated and malformed parameters together. Ignoring a misspelt
/// filter would show more than the caller asked for.
pub(crate) fn each(
    parameters: Parameters,
    known: &str,
    mut take: impl FnMut(&str, &str) -> Result<bool, &'static str>,
) -> Result<(), Problem> {
    let Query(parameters) = parameters.map_err(|_| {
        Problem::new(StatusCode::BAD_REQUEST, "malformed-query", "the query is not name=value&…")
    })?;
    read(&parameters, known, |name, detail: String| FieldError::parameter(name, detail), &mut take)
}

fn read(
    pairs: &[(String, String)],
    known: &str,
    error: impl Fn(&str, String) -> FieldError,
    mut take: impl FnMut(&str, &str) -> Result<bool, &'static str>,
) -> Result<(), Problem> {
    let mut seen = HashSet::new();
    let mut errors = Vec::new();
    // The list of known parameters appears in one error only.
    let mut list = Some(format!("; the known ones are {known}"));
    for (name, value) in pairs {
        if !seen.insert(name.as_str()) && is_showable(name) {
            errors.push(error(name, "is given more than once".to_owned()));
            continue;
        }
        match take(name, value) {
            Ok(true) => {}
            Err(_) if value.is_empty() => {}
            Err(detail) => errors.push(error(name, detail.to_owned())),
            Ok(false) => {
                let shown = if is_showable(name) { name } else { "(a parameter)" };
                let detail = format!("is not known{}", list.take().unwrap_or_default());
                errors.push(error(shown, detail));
            }
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
}
