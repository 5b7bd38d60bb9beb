//! A list's query → typed parameters.

use super::fields::is_showable;
use crate::{
    ListQuery, Scope, Store,
    web::{FieldError, Problem},
};

const KNOWN: &str = "active, scope, q, page_size and page_token";

/// What a list is asked for. Unknown, repeated and malformed parameters are told, all at once: a
/// misspelt filter that is passed over would show more than was asked for.
pub(crate) fn read(store: &Store, parameters: &[(String, String)]) -> Result<ListQuery, Problem> {
    let mut query = ListQuery::default();
    let mut seen: Vec<&str> = Vec::new();
    let mut wrong = Vec::new();
    for (name, value) in parameters {
        if seen.contains(&name.as_str()) && is_showable(name) {
            wrong.push(FieldError::parameter(name, "is given more than once"));
            continue;
        }
        seen.push(name);
        // A form sends the parameters that were left empty as well.
        let given = (!value.is_empty()).then_some(value.as_str());
        match name.as_str() {
            "active" => match given {
                None => {}
                Some("true") => query.active = Some(true),
                Some("false") => query.active = Some(false),
                Some(_) => wrong.push(FieldError::parameter(name, "must be true or false")),
            },
            "scope" => match given.map(|name| known_scope(store, name)) {
                None => {}
                Some(Some(scope)) => query.scope = Some(scope),
                Some(None) => wrong.push(FieldError::parameter(
                    name,
                    "is not a scope of this store; GET /v1/scopes lists them",
                )),
            },
            "q" => query.text = given.map(str::to_owned),
            "page_size" => match given.map(str::parse) {
                None => {}
                Some(Ok(size)) => query.page_size = Some(size),
                Some(Err(_)) => {
                    wrong.push(FieldError::parameter(name, "must be a number from 1 to 200"));
                }
            },
            "page_token" => query.page_token = given.map(str::to_owned),
            _ => {
                let shown = if is_showable(name) { name } else { "(a parameter)" };
                let detail = format!("is not known; the known ones are {KNOWN}");
                wrong.push(FieldError::parameter(shown, detail));
            }
        }
    }
    if wrong.is_empty() { Ok(query) } else { Err(Problem::invalid(wrong)) }
}

/// The scope of this name. One that is no longer offered can still be looked for.
fn known_scope(store: &Store, name: &str) -> Option<Scope> {
    let entries = store.catalogue().entries().iter();
    entries.map(|entry| &entry.scope).find(|scope| scope.as_str() == name).cloned()
}
