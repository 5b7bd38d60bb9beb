//! Who calls, which scopes there are, and how the store is.

use super::{
    caller::{Caller, ask},
    denied::Denied,
    openapi, wire,
};
use axum::{extract::State, http::StatusCode, response::Response};
use portcullis::{Attempt, Error, Plane, Refusal, Store, scope::catalogue, web::Problem};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

/// What a key can be given.
#[derive(Serialize, ToSchema)]
pub(crate) struct Scopes {
    scopes: Vec<Scope>,
}

/// One of them.
#[derive(Serialize, ToSchema)]
struct Scope {
    name: &'static str,
    /// `administration` or `data`.
    plane: &'static str,
    description: &'static str,
}

/// All is well.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    status: &'static str,
    /// `full` while the disk is full: only revocations and other stricter changes are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<&'static str>,
    /// How far the store's time is ahead of the wall clock, if by more than a minute: keys expire
    /// that much too early.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_ahead_seconds: Option<u64>,
}

/// The caller's own key: what people try first.
#[utoipa::path(
    get,
    path = "/v1/whoami",
    responses(
        (status = 200, description = "the key", body = wire::Key<'_>, headers(("ETag" = String)))
    ),
    security(("key" = []))
)]
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
#[utoipa::path(
    get,
    path = "/v1/scopes",
    responses(
        (status = 200, description = "the scopes", body = Scopes)
    ),
    security(("key" = ["admin.key.list"]))
)]
pub(crate) async fn scopes(State(store): State<Store>, caller: Caller) -> Result<Response, Denied> {
    caller.require(&store, &catalogue::ADMIN_KEY_LIST, Attempt::List, None).await?;
    let entries = store.catalogue().entries().iter().filter(|entry| entry.offered);
    let scopes = entries.map(|entry| Scope {
        name: entry.scope.as_str(),
        plane: match entry.scope.plane() {
            Plane::Administration => "administration",
            Plane::Data => "data",
        },
        description: &entry.description,
    });
    Ok(wire::json(&Scopes { scopes: scopes.collect() }))
}

/// The process answers.
#[utoipa::path(
    get,
    path = "/healthz",
    responses(
        (status = 200, description = "it does", body = Health)
    )
)]
pub(crate) async fn alive() -> Response {
    wire::json(&Health { status: "ok", disk: None, clock_ahead_seconds: None })
}

/// The store takes changes, and keys are checked. The cause, where it does not, is in the log: it may name files.
#[utoipa::path(
    get,
    path = "/readyz",
    responses(
        (status = 200, description = "it does", body = Health),
        (status = 503, description = "it does not", body = openapi::ProblemDetails,
            content_type = "application/problem+json")
    )
)]
pub(crate) async fn ready(State(store): State<Store>) -> Result<Response, Problem> {
    let health = store.health();
    if health.poisoned.is_none() && health.is_answering {
        let disk = health.disk.filter(|disk| disk.is_reserve_in_use).map(|_| "full");
        let clock_ahead_seconds = health.clock_ahead.map(|ahead| ahead.as_secs());
        return Ok(wire::json(&Health { status: "ok", disk, clock_ahead_seconds }));
    }
    if !health.is_answering {
        let detail = "this replica cannot vouch for any key at the moment; ask another one";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail));
    }
    let detail = "the store stopped writing after a failure; keys are still checked, reopen the store to change them";
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;

    #[tokio::test]
    async fn full_disk_is_ready_and_says_so() {
        let (store, script) = portcullis::testing::scripted_store();
        script.fill_disk();
        let answer = ready(State(store)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let body = to_bytes(answer.into_body(), 1000).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["status"], &body["disk"]), (&json!("ok"), &json!("full")));
    }

    #[tokio::test]
    async fn change_on_a_full_disk_is_answered_with_507_and_the_free_space() {
        let (store, script) = portcullis::testing::scripted_store();
        script.fill_disk();
        let new = portcullis::NewKey {
            name: "a".into(),
            grant: portcullis::Grant::Scopes(store.scopes(["api.read"]).unwrap()),
            active: true,
            expiry: portcullis::Expiry::Never,
            owner: None,
            metadata: portcullis::Metadata::new(),
        };
        let denied: Denied = store.issue(new).unwrap_err().into();
        let answer = axum::response::IntoResponse::into_response(denied);
        assert_eq!(answer.status(), StatusCode::INSUFFICIENT_STORAGE);
        let body = to_bytes(answer.into_body(), 4000).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["type"], "urn:portcullis:disk-full");
        assert!(body["detail"].as_str().unwrap().contains("(300 KiB free)"), "{body}");
    }

    async fn body(store: Store) -> serde_json::Value {
        let response = ready(State(store)).await.unwrap();
        serde_json::from_slice(&to_bytes(response.into_body(), 1000).await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn readiness_reports_how_far_the_clock_is_ahead() {
        let right = Store::in_memory().unwrap();
        assert_eq!(body(right).await, json!({"status": "ok"}));
        let told =
            body(portcullis::testing::store_with_time_ahead(std::time::Duration::from_hours(72)))
                .await;
        let seconds = told["clock_ahead_seconds"].as_u64().unwrap();
        assert!((71 * 3600..=72 * 3600).contains(&seconds), "{told}");
    }
}
