//! The routes about the caller's own key, and the health of the service.

use super::{api_error::ApiError, body, caller::Caller, keys, wire};
use axum::{body::Body, extract::State, http::StatusCode, response::Response};
use portcullis::{Error, Refusal, Store, web::Problem};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

/// The health of the service.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`.
    status: &'static str,
    /// `full` while the disk is full: only revocations and other stricter changes are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<&'static str>,
    /// How many seconds the store's time is ahead of the wall clock, if more than 60. Keys expire
    /// that much too early.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_ahead_seconds: Option<u64>,
}

/// Shows the caller's own key
///
/// Needs a valid key and no scope.
#[utoipa::path(
    get,
    path = "/v1/whoami",
    operation_id = "whoami",
    tag = "Verification",
    responses(
        (status = 200, description = "the key", body = wire::Key<'_>, headers(("ETag" = String, description = "The revision of the key, for `If-Match`")))
    ),
    security(("key" = []))
)]
pub(crate) async fn whoami(
    State(store): State<Store>,
    caller: Caller,
) -> Result<Response, ApiError> {
    if let Caller::Local(user) = caller {
        let id = format!("local:{}", user.uid());
        let prefix = store.prefix().as_str().to_owned();
        return Ok(wire::json(&json!({"id": id, "scopes": ["*"], "prefix": prefix})));
    }
    match caller.act(&store, |acting| Ok(acting.own())).await? {
        Ok(record) => {
            Ok(record.map_or_else(Response::default, |record| wire::key(&store, &record)))
        }
        // The key was deleted after its request was authenticated.
        Err(Error::NoSuchKey(_)) => Err(Refusal::Unknown.into()),
        Err(error) => Err(error.into()),
    }
}

/// Revokes the caller's own key
///
/// Needs a valid key and no scope. The key is refused from the response on. A key with the scope
/// `admin.key.update` can reactivate it.
#[utoipa::path(
    delete,
    path = "/v1/whoami",
    operation_id = "revoke_own_key",
    tag = "Verification",
    responses(
        (status = 200, description = "the key, which is inactive now", body = wire::Key<'_>, headers(("ETag" = String, description = "The revision of the key, for `If-Match`")))
    ),
    security(("key" = []))
)]
pub(crate) async fn revoke_own(
    State(store): State<Store>,
    caller: Caller,
    body: Body,
) -> Result<Response, ApiError> {
    // The body is ignored, but a request with an incomplete body must not take effect.
    body::read(body).await?;
    let Some(id) = caller.id() else {
        let detail = "a local user has no key; revoke a key by its id, with PATCH /v1/keys/{id}";
        return Err(Problem::new(StatusCode::NOT_FOUND, "no-such-key", detail).into());
    };
    let (record, settled) = caller.act(&store, move |acting| keys::revoke(&acting, id)).await?;
    Ok(wire::changed(&store, &record, settled))
}

/// Liveness probe
///
/// Returns 200 while the process runs.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "healthz",
    tag = "Health",
    responses(
        (status = 200, description = "the process runs", body = Health)
    )
)]
pub(crate) async fn alive() -> Response {
    wire::json(&Health { status: "ok", disk: None, clock_ahead_seconds: None })
}

/// Readiness probe
///
/// Returns 200 while the store authenticates keys and accepts changes. The server's log has the
/// cause of a failure, which may name files.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "Health",
    responses(
        (status = 200, description = "the store is ready", body = Health)
    )
)]
pub(crate) async fn ready(State(store): State<Store>) -> Result<Response, Problem> {
    let health = store.health();
    let unavailable =
        |detail| Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail));
    if !health.is_answering {
        return unavailable("this replica cannot authenticate keys now; use another replica");
    }
    if health.poisoned.is_some() {
        return unavailable(
            "the store stopped writing after a failure; keys are still authenticated, reopen the store to change them",
        );
    }
    let disk = health.disk.filter(|disk| disk.is_reserve_in_use).map(|_| "full");
    let clock_ahead_seconds = health.clock_ahead.map(|ahead| ahead.as_secs());
    Ok(wire::json(&Health { status: "ok", disk, clock_ahead_seconds }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{body::to_bytes, response::IntoResponse};
    use serde_json::Value;

    async fn json_body(response: Response) -> Value {
        serde_json::from_slice(&to_bytes(response.into_body(), 4000).await.unwrap()).unwrap()
    }

    async fn readiness(store: Store) -> Value {
        json_body(ready(State(store)).await.unwrap()).await
    }

    #[tokio::test]
    async fn store_on_a_full_disk_is_ready_and_reports_the_disk() {
        let (store, script) = portcullis::testing::scripted_store();
        script.fill_disk();
        assert_eq!(readiness(store).await, json!({"status": "ok", "disk": "full"}));
    }

    #[tokio::test]
    async fn change_on_a_full_disk_returns_507_with_the_free_space() {
        let (store, script) = portcullis::testing::scripted_store();
        script.fill_disk();
        let new = portcullis::NewKey::new(
            "a",
            store.scopes(["api.read"]).unwrap(),
            portcullis::Expiry::Never,
        );
        let denied: ApiError = store.issue(new).unwrap_err().into();
        let response = denied.into_response();
        assert_eq!(response.status(), StatusCode::INSUFFICIENT_STORAGE);
        let body = json_body(response).await;
        assert_eq!(body["type"], "urn:portcullis:disk-full");
        assert!(body["detail"].as_str().unwrap().contains("(300 KiB free)"), "{body}");
    }

    #[tokio::test]
    async fn readiness_reports_how_far_the_clock_is_ahead() {
        let correct = Store::builder()
            .scopes(portcullis::scope::catalogue::financial_data())
            .in_memory()
            .unwrap();
        assert_eq!(readiness(correct).await, json!({"status": "ok"}));
        let three_days = std::time::Duration::from_hours(72);
        let ahead = readiness(portcullis::testing::store_with_time_ahead(three_days)).await;
        let seconds = ahead["clock_ahead_seconds"].as_u64().unwrap();
        assert!((71 * 3600..=72 * 3600).contains(&seconds), "{ahead}");
    }
}
