//! Who calls, which scopes there are, and how the store is.

use super::{
    caller::{Caller, ask},
    denied::Denied,
    wire,
};
use crate::{Attempt, Error, Plane, Refusal, Store, scope::catalogue, web::Problem};
use axum::{extract::State, http::StatusCode, response::Response};
use serde_json::json;

/// The caller's own key: what people try first.
pub(crate) async fn whoami(State(store): State<Store>, caller: Caller) -> Result<Response, Denied> {
    let id = match caller {
        Caller::Key(principal, _) => principal.id(),
        Caller::Local(user) => {
            return Ok(wire::json(
                &json!({"id": format!("local:{}", user.uid()), "scopes": ["*"]}),
            ));
        }
    };
    match ask(&store, move |store| Ok(store.get(id))).await? {
        Ok(record) => Ok(wire::key(&store, &record)),
        // It was deleted since it was let in a moment ago.
        Err(Error::NoSuchKey(_)) => Err(Refusal::Unknown.into()),
        Err(error) => Err(error.into()),
    }
}

/// The scopes that a key can be given.
pub(crate) async fn scopes(State(store): State<Store>, caller: Caller) -> Result<Response, Denied> {
    caller.require(&store, &catalogue::ADMIN_KEY_LIST, Attempt::List, None).await?;
    let entries = store.catalogue().entries().iter().filter(|entry| entry.offered);
    let scopes: Vec<_> = entries
        .map(|entry| {
            let plane = match entry.scope.plane() {
                Plane::Administration => "administration",
                Plane::Data => "data",
            };
            json!({"name": entry.scope.as_str(), "plane": plane, "description": entry.description})
        })
        .collect();
    Ok(wire::json(&json!({"scopes": scopes})))
}

/// The process answers.
pub(crate) async fn alive() -> Response {
    wire::json(&json!({"status": "ok"}))
}

/// The store takes changes. The cause, where it does not, is in the log: it may name files.
pub(crate) async fn ready(State(store): State<Store>) -> Result<Response, Problem> {
    if store.health().poisoned.is_none() {
        return Ok(wire::json(&json!({"status": "ok"})));
    }
    let detail = "the store stopped writing after a failure; keys are still checked, reopen the store to change them";
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail))
}
