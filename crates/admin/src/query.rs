//! A request's query → typed parameters.

use super::fields::is_showable;
use axum::{
    extract::{Query, rejection::QueryRejection},
    http::StatusCode,
};
use portcullis::{
    Store,
    list::ListQuery,
    web::{FieldError, Problem},
};
use std::{collections::HashSet, str::FromStr};

/// The query of a request, as axum parses it.
pub(crate) type Parameters = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// Reads the parameters of a list of keys.
pub(crate) fn list(store: &Store, parameters: Parameters) -> Result<ListQuery, Problem> {
    let mut query = ListQuery::default();
    each(parameters, "active, scope, owner, q, page_size and page_token", |name, value| {
        match name {
            "active" => query.active = Some(value.parse().map_err(|_| "must be true or false")?),
            "scope" => {
                let known = store.catalogue().find(value);
                let known =
                    known.map_err(|_| "is not a scope of this store; GET /v1/scopes lists them")?;
                query.scope = Some(known.scope.clone());
            }
            "owner" => query.owner = Some(Some(value.to_owned())),
            "q" => query.text = non_empty(value),
            "page_size" => query.page_size = Some(number(value, "must be a number from 1 to 200")?),
            "page_token" => query.page_token = non_empty(value),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(query)
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
    let mut seen = HashSet::new();
    let mut errors = Vec::new();
    // The list of known parameters appears in one error only.
    let mut list = Some(format!("; the known ones are {known}"));
    for (name, value) in &parameters {
        if !seen.insert(name.as_str()) && is_showable(name) {
            errors.push(FieldError::parameter(name, "is given more than once"));
            continue;
        }
        match take(name, value) {
            Ok(true) => {}
            Err(_) if value.is_empty() => {}
            Err(detail) => errors.push(FieldError::parameter(name, detail)),
            Ok(false) => {
                let shown = if is_showable(name) { name } else { "(a parameter)" };
                let detail = format!("is not known{}", list.take().unwrap_or_default());
                errors.push(FieldError::parameter(shown, detail));
            }
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
}
