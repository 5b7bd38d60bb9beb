//! A request's query → typed parameters.

use super::fields::is_showable;
use axum::{
    extract::{Query, rejection::QueryRejection},
    http::StatusCode,
};
use portcullis::{
    ListQuery, Scope, Store,
    web::{FieldError, Problem},
};
use std::{collections::HashSet, str::FromStr};

/// The query of a request, as it came.
pub(crate) type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// What a list is asked for.
pub(crate) fn list(store: &Store, pairs: Pairs) -> Result<ListQuery, Problem> {
    let mut query = ListQuery::default();
    each(pairs, "active, scope, q, page_size and page_token", |name, value| {
        match name {
            "active" => query.active = Some(value.parse().map_err(|_| "must be true or false")?),
            "scope" => {
                let known = known_scope(store, value);
                query.scope =
                    Some(known.ok_or("is not a scope of this store; GET /v1/scopes lists them")?);
            }
            "q" => query.text = given(value),
            "page_size" => query.page_size = Some(number(value, "must be a number from 1 to 200")?),
            "page_token" => query.page_token = given(value),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(query)
}

/// A form sends the parameters that were left empty as well.
fn given(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// A number in a query.
pub(crate) fn number<T: FromStr>(value: &str, expected: &'static str) -> Result<T, &'static str> {
    value.parse().map_err(|_| expected)
}

/// Asks `take` for each parameter; it answers whether it knows this name, or what is wrong. Unknown,
/// repeated and malformed parameters are told, all at once: a misspelt filter that is passed over
/// would show more than was asked for.
pub(crate) fn each(
    pairs: Pairs,
    known: &str,
    mut take: impl FnMut(&str, &str) -> Result<bool, &'static str>,
) -> Result<(), Problem> {
    let Query(pairs) = pairs.map_err(|_| {
        Problem::new(StatusCode::BAD_REQUEST, "malformed-query", "the query is not name=value&…")
    })?;
    let mut seen = HashSet::new();
    let mut wrong = Vec::new();
    // The known parameters are listed once, however many others there are.
    let mut list = Some(format!("; the known ones are {known}"));
    for (name, value) in &pairs {
        if !seen.insert(name.as_str()) && is_showable(name) {
            wrong.push(FieldError::parameter(name, "is given more than once"));
            continue;
        }
        match take(name, value) {
            Ok(true) => {}
            Err(_) if value.is_empty() => {}
            Err(detail) => wrong.push(FieldError::parameter(name, detail)),
            Ok(false) => {
                let shown = if is_showable(name) { name } else { "(a parameter)" };
                let detail = format!("is not known{}", list.take().unwrap_or_default());
                wrong.push(FieldError::parameter(shown, detail));
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Problem::invalid(wrong)) }
}

/// The scope of this name. One that is no longer offered can still be looked for.
fn known_scope(store: &Store, name: &str) -> Option<Scope> {
    let entries = store.catalogue().entries().iter();
    entries.map(|entry| &entry.scope).find(|scope| scope.as_str() == name).cloned()
}
